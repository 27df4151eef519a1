"""Sweeps over context limits: launched together from the page and the API, shown against the limit."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client

from sandbox.task import Task, load_taskset
from tests.trainer.scripted_endpoint import Script, ScriptedEndpoint, gold_script
from tests.web.evaluated import NAMES, config_of, form_data
from webapp.api.models import ApiToken
from webapp.evaluations.jobs import run_shard
from webapp.evaluations.models import ContextSweep, Evaluation

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def own_folder(settings, tmp_path: Path) -> None:
    settings.EVALUATIONS_DIR = tmp_path / "evaluations"


def looks_first(task: Task, seed: int) -> Script:
    """An agent that reads before it applies the gold patch."""
    look = "<function=execute_bash>\n<parameter=cmd>cat *.py</parameter>\n"
    return [look, *gold_script(task)]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(load_taskset("starter").tasks, script=looks_first) as started:
        yield started


def test_one_call_launches_an_evaluation_a_limit_and_the_page_shows_them_against_it(
    alice: User,
    client: Client,
    endpoint: ScriptedEndpoint,
    django_assert_max_num_queries: Callable,
) -> None:
    api = Client(headers={"authorization": f"Bearer {ApiToken.issue(alice, 'script')}"})
    changes = config_of(endpoint, group_size=1).model_dump(mode="json")
    asked = {"name": "context", "changes": changes, "context_limits": [2000, 20, 1000, 20]}
    headers = {"Idempotency-Key": str(uuid4())}
    launched = api.post(
        "/api/evaluations/sweeps", asked, content_type="application/json", headers=headers
    )
    assert launched.status_code == 201, launched.content
    again = api.post(
        "/api/evaluations/sweeps", asked, content_type="application/json", headers=headers
    )
    assert again.json()["id"] == launched.json()["id"]
    assert [point["context_limit"] for point in launched.json()["points"]] == [20, 1000, 2000]
    rows = Evaluation.objects.order_by("created_at")
    assert [row.name for row in rows] == [f"context, {n} tokens" for n in ("20", "1,000", "2,000")]
    for row in rows:
        run_shard(row.shards.get().id)
    told = api.get(f"/api/evaluations/sweeps/{launched.json()['id']}").json()["points"]
    # with so few tokens the agent is cut off before it has applied its patch
    assert [point["pass_at_1"]["value"] for point in told] == [0.0, 1.0, 1.0]
    assert [point["cut_off"] for point in told] == [1.0, 0.0, 0.0]
    assert [point["num_scored"] for point in told] == [4, 4, 4]
    client.force_login(alice)
    sweep = ContextSweep.objects.get()
    with django_assert_max_num_queries(20):
        page = client.get(sweep.get_absolute_url()).content.decode()
    assert page.count("100.0 %") >= 3
    assert "2,000" in page
    figures = client.get(f"{sweep.get_absolute_url()}figures.json").json()["figures"]
    (trace,) = figures["limits"]["data"]
    assert (trace["x"], trace["y"]) == ([20, 1000, 2000], [0.0, 1.0, 1.0])
    one = client.get(f"/evaluations/{rows[0].pk}/").content.decode()
    assert sweep.get_absolute_url() in one
    partial = client.get(sweep.get_absolute_url(), headers={"HX-Request": "true"}).content
    assert b"<html" not in partial
    assert client.get(f"/evaluations/sweeps/{UUID(int=1)}/").status_code == 404


def test_the_form_launches_a_sweep(client: Client, alice: User, endpoint: ScriptedEndpoint) -> None:
    client.force_login(alice)
    config = config_of(endpoint, group_size=2)
    data = form_data(config, **{"tasks.only": ", ".join(NAMES), "context_limits": "4096, 512 1024"})
    answer = client.post("/evaluations/new/", data)
    sweep = ContextSweep.objects.get()
    assert answer["Location"] == sweep.get_absolute_url()
    assert (sweep.name, sweep.owner) == ("from the page", alice)
    rows = Evaluation.objects.order_by("created_at")
    assert [row.context_limit for row in rows] == [512, 1024, 4096]
    assert [row.config["rollout"]["max_turn_tokens"] for row in rows] == [512, 1024, 2048]
    assert {row.shards.count() for row in rows} == {2}


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("400, many", "with commas between them"),
        (f"400, {'9' * 5000}", "with commas between them"),
        ("400", "give 2 to 12 different ones"),
        ("400, 99999", "99999: engine.max_model_len"),
    ],
)
def test_limits_that_cannot_be_are_refused_beside_their_field(
    client: Client, alice: User, endpoint: ScriptedEndpoint, limits: str, said: str
) -> None:
    client.force_login(alice)
    data: dict[str, Any] = form_data(config_of(endpoint, group_size=2), context_limits=limits)
    answer = client.post("/evaluations/new/", data)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert said in page
    assert 'href="#id_context_limits"' in page, "the field is far below the button"
    assert not Evaluation.objects.exists()
