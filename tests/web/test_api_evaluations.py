"""Evaluations over the API: launched by one call, watched, read, cancelled."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client

from sandbox.task import load_taskset
from tests.trainer.scripted_endpoint import ScriptedEndpoint
from tests.web.conftest import make_worker
from trainer.evaluations.config import load_evaluation_recipe
from trainer.events import EVENT
from webapp.api.models import ApiToken
from webapp.evaluations import lifecycle
from webapp.evaluations.jobs import run_shard
from webapp.evaluations.models import Evaluation
from webapp.evaluations.predictions import predictions
from webapp.rollouts.models import Rollout

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def own_folder(settings, tmp_path: Path) -> None:
    settings.EVALUATIONS_DIR = tmp_path / "evaluations"


def script_of(user: User) -> Client:
    return Client(headers={"authorization": f"Bearer {ApiToken.issue(user, 'script')}"})


def post(client: Client, path: str, data: dict[str, Any] | None = None) -> Any:
    return client.post(path, data or {}, content_type="application/json")


def test_one_call_launches_it_and_the_rest_is_read(alice: User, bob: User) -> None:
    api = script_of(alice)
    with ScriptedEndpoint(load_taskset("starter").tasks) as endpoint:
        changes = {
            "model": {"path": "m", "endpoint": endpoint.url},
            "tasks": {"split": "all", "only": ["bonus-points", "budget-left"]},
            "rollout": {"group_size": 2, "max_turn_tokens": 400, "max_response_tokens": 1000},
        }
        answer = post(api, "/api/evaluations", {"name": "by a script", "changes": changes})
        assert answer.status_code == 201
        told = answer.json()
        assert (told["status"], told["owner"], told["num_scored"]) == ("queued", "alice", 0)
        run_shard(Evaluation.objects.get().shards.get().id)
    path = f"/api/evaluations/{told['id']}"
    told = api.get(path).json()
    assert (told["status"], told["num_tasks"]) == ("finished", 2)
    assert (told["num_wanted"], told["num_scored"]) == (4, 4)
    results = api.get(f"{path}/results").json()
    assert results["total"] == len(results["results"]) == 4
    mean = sum(row["reward"] for row in results["results"]) / 4
    assert results["pass_at_1"]["value"] == results["curves"]["pass@k"][0] == mean
    assert results["pass_at_1"]["low"] <= mean <= results["pass_at_1"]["high"]
    one = api.get(f"{path}/results?task=starter/budget-left&limit=1").json()
    assert (one["total"], len(one["results"])) == (2, 1)
    assert api.get(f"/api/rollouts/{one['results'][0]['id']}").json()["evaluation_id"] == told["id"]
    for index in (0, 1):
        told = api.get(f"{path}/predictions.jsonl?index={index}")
        lines = [json.loads(line) for line in told.getvalue().splitlines()]
        assert [line["instance_id"] for line in lines] == ["bonus-points", "budget-left"]
        solved = [row["reward"] for row in results["results"] if row["index"] == index]
        assert [bool(line["model_patch"]) for line in lines] == [reward == 1 for reward in solved]
    told = api.get(path).json()
    events = api.get(f"{path}/events?after=1&limit=3").json()
    assert [EVENT.validate_python(event).seq for event in events["events"]] == [2, 3, 4]
    assert events["last_seq"] == 4
    assert post(script_of(bob), f"{path}/cancel").status_code == 403
    assert post(api, f"{path}/cancel").status_code == 409
    assert post(api, f"{path}/resume").status_code == 409
    listed = api.get("/api/evaluations?status=finished").json()
    assert [row["name"] for row in listed["evaluations"]] == ["by a script"]


def test_a_queued_one_is_cancelled_and_resumed(alice: User, client: Client) -> None:
    api = script_of(alice)
    client.force_login(alice)
    told = post(api, "/api/evaluations", {"num_shards": 3}).json()
    path = f"/api/evaluations/{told['id']}"
    assert len(told["shards"]) == 3
    cancelled = post(api, f"{path}/cancel").json()
    assert (cancelled["status"], cancelled["reason"]) == ("stopped", "Stopped by alice.")
    header = client.get(f"/evaluations/{told['id']}/header/")
    assert "Go on" in header.content.decode()
    assert header.headers["HX-Refresh"] == "true"
    assert post(api, f"{path}/resume").json()["status"] == "queued"


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"recipe": "nonsense"}, "recipe"),
        ({"changes": {"rollout": {"group_size": 0}}}, "rollout.group_size"),
        ({"changes": {"nonsense": {}}}, "nonsense"),
        ({"changes": {"model": {"api_key_file": "/etc/studio/key"}}}, "model.api_key_file"),
    ],
)
def test_what_is_wrong_is_told_by_field(alice: User, data: dict[str, Any], field: str) -> None:
    for path, more in (("evaluations", {}), ("evaluations/sweeps", {"context_limits": [400]})):
        answer = post(script_of(alice), f"/api/{path}", data | more)
        assert answer.status_code == 422
        assert [problem["field"] for problem in answer.json()["problems"]] == [field]


def test_staff_may_name_a_file_of_the_workers_as_the_endpoints_key(alice: User) -> None:
    alice.is_staff = True
    alice.save()
    key = {"changes": {"model": {"api_key_file": "/etc/studio/key"}}}
    assert post(script_of(alice), "/api/evaluations", key).status_code == 201


def test_strangers_and_unknown_ids(alice: User) -> None:
    assert Client().get("/api/evaluations").status_code == 401
    assert post(Client(), "/api/evaluations").status_code == 401
    api = script_of(alice)
    for path in ("", "/results", "/events", "/predictions.jsonl"):
        assert api.get(f"/api/evaluations/{uuid4()}{path}").status_code == 404
    for action in ("cancel", "resume"):
        assert post(api, f"/api/evaluations/{uuid4()}/{action}").status_code == 404


@pytest.mark.parametrize("path", ["evaluations", "runs"])
def test_a_list_begins_where_databases_can_count_to(alice: User, path: str) -> None:
    api = script_of(alice)
    assert api.get(f"/api/{path}?offset={2**31 - 1}").status_code == 200
    assert api.get(f"/api/{path}?offset={2**64}").status_code == 422


def test_a_list_of_queued_ones_asks_for_the_workers_once(
    alice: User, django_assert_max_num_queries: Callable
) -> None:
    for name in ("one@here", "two@here", "three@here"):
        make_worker(name, queues=["evaluate"])
    rows = [
        lifecycle.launch(config=load_evaluation_recipe("starter"), name=str(n), owner=alice)
        for n in range(6)
    ]
    newer = Evaluation.objects.filter(id=rows[0].id)
    newer.update(config=rows[0].config | {"teacher": "a larger model"})
    api = script_of(alice)
    # the token, the rows and their number, the workers and what each is at, and each row's model
    with django_assert_max_num_queries(3 + 1 + 3 * 3 + 6):
        told = api.get("/api/evaluations").json()["evaluations"]
    assert "its configuration is none of this version's: teacher" in told[-1]["waiting_for"]
    assert {row["waiting_for"] for row in told[:-1]} == {"Waits until a worker is free."}


def test_a_large_patch_is_read_whole_from_the_storage(
    alice: User, settings, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = tmp_path / "media"
    name = default_storage.save("evaluations/large.patch", ContentFile(b"+whole\n\xe9"))
    large = Rollout(task="t/large", patch="+who", files={"patch": name})
    small = Rollout(task="t/small", patch="+small")
    lines = [json.loads(line) for line in predictions([large, small], "their/model")]
    assert lines == [
        {
            "instance_id": "large",
            "model_name_or_path": "their/model",
            "model_patch": "+whole\n\ufffd",
        },
        {"instance_id": "small", "model_name_or_path": "their/model", "model_patch": "+small"},
    ]
