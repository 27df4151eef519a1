"""The REST API: who may do what, and that it says what the pages say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from webapp.api.models import ApiToken
from webapp.runs import lifecycle
from webapp.runs.ingest import ingest
from webapp.runs.models import Run, Worker

TINY = {"num_steps": 3, "rollout": {"group_size": 4}}


@pytest.fixture
def api(alice: User) -> Client:
    """A script of alice's."""
    return Client(headers={"authorization": f"Bearer {ApiToken.issue(alice, 'script')}"})


@pytest.fixture
def bobs_api(bob: User) -> Client:
    return Client(headers={"authorization": f"Bearer {ApiToken.issue(bob, 'script')}"})


def post(client: Client, path: str, data: dict[str, Any] | None = None) -> Any:
    return client.post(path, data or {}, content_type="application/json")


def paths(run: Run) -> list[str]:
    return [
        "/api/health",
        "/api/runs",
        f"/api/runs/{run.id}",
        f"/api/runs/{run.id}/events",
        f"/api/runs/{run.id}/rollouts",
    ]


def test_without_sign_in_nothing_is_served(run: Run) -> None:
    stranger = Client(headers={"authorization": "Bearer studio_guess"})
    for path in [*paths(run), f"/api/rollouts/{uuid4()}"]:
        assert Client().get(path).status_code == 401
        assert stranger.get(path).status_code == 401
    assert post(Client(), "/api/runs", {"recipe": "starter-cpu"}).status_code == 401
    for path in ("/api/docs", "/api/openapi.json"):
        assert Client().get(path).status_code == 302


def test_a_token_or_a_session_opens_it(run: Run, api: Client, bob: User) -> None:
    browser = Client()
    browser.force_login(bob)
    for path in paths(run):
        assert api.get(path).status_code == 200
        assert browser.get(path).status_code == 200
    assert b"swagger-ui-bundle.js" in browser.get("/api/docs").content


def test_a_token_is_stored_as_a_digest_alone(alice: User) -> None:
    token = ApiToken.issue(alice, "script")
    assert token not in str(ApiToken.objects.values())
    assert ApiToken.user_of(token) == alice
    alice.is_active = False
    alice.save()
    assert ApiToken.user_of(token) is None


def test_a_command_prints_a_token(alice: User, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("api_token", "alice", "script")
    assert ApiToken.user_of(capsys.readouterr().out.strip()) == alice


def test_a_session_needs_a_csrf_token_to_change_anything(run: Run, alice: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(alice)
    assert post(browser, f"/api/runs/{run.id}/stop").status_code == 403
    run.refresh_from_db()
    assert run.status == "queued"


def test_a_script_launches_a_run(api: Client, alice: User) -> None:
    answer = post(api, "/api/runs", {"recipe": "starter-cpu", "name": "tiny", "changes": TINY})
    assert answer.status_code == 201
    run = Run.objects.get(id=answer.json()["id"])
    assert (run.owner, run.name, run.num_steps) == (alice, "tiny", 3)
    assert run.config["rollout"]["group_size"] == 4
    assert answer.json()["config"] == run.config
    assert "none is online" in answer.json()["waiting_for"]


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"rollout": {"group_size": 1}}, "rollout.group_size", "needs at least 2"),
        ({"rollout": {"sise": 1}}, "rollout.sise", "not a field"),
    ],
)
def test_an_impossible_run_is_refused_with_its_field(
    api: Client, changes: dict[str, Any], field: str, message: str
) -> None:
    answer = post(api, "/api/runs", {"recipe": "starter-cpu", "changes": changes})
    assert answer.status_code == 422
    assert answer.json()["problems"][0]["field"] == field
    assert message in answer.json()["problems"][0]["message"]
    assert not Run.objects.exists()


def test_an_unknown_recipe_is_refused_with_the_known_ones(api: Client) -> None:
    answer = post(api, "/api/runs", {"recipe": "huge"})
    assert answer.status_code == 422
    assert "starter-cpu" in answer.json()["problems"][0]["message"]


def test_only_the_owner_stops_and_resumes(run: Run, api: Client, bobs_api: Client) -> None:
    stop, resume = f"/api/runs/{run.id}/stop", f"/api/runs/{run.id}/resume"
    assert post(bobs_api, stop).status_code == 403
    assert post(api, resume).status_code == 409
    assert post(api, stop).json()["status"] == "stopped"
    assert post(api, stop).status_code == 409
    assert post(bobs_api, resume).status_code == 403
    assert post(api, resume).json()["status"] == "queued"


def test_a_live_run_is_told_to_stop(run: Run, api: Client, worker: Worker) -> None:
    lifecycle.claim(run.id, worker)
    answer = post(api, f"/api/runs/{run.id}/stop")
    assert (answer.status_code, answer.json()["status"]) == (202, "stopping")


def test_anyone_clones_with_changes(run: Run, bobs_api: Client, bob: User) -> None:
    answer = post(bobs_api, f"/api/runs/{run.id}/clone", {"changes": {"seed": 7}})
    clone = Run.objects.get(id=answer.json()["id"])
    assert (clone.owner, clone.cloned_from) == (bob, run)
    assert clone.config == run.config | {"seed": 7}


def test_runs_are_listed_newest_first(run: Run, api: Client) -> None:
    newer = post(api, f"/api/runs/{run.id}/clone").json()["id"]
    listed = api.get("/api/runs").json()
    assert [row["id"] for row in listed["runs"]] == [newer, str(run.id)]
    assert listed["total"] == 2
    assert api.get("/api/runs?status=running").json()["total"] == 0
    assert len(api.get("/api/runs?limit=1&offset=1").json()["runs"]) == 1
    assert api.get("/api/runs?limit=1000").status_code == 422


def test_a_rollout_has_its_turns(run: Run, api: Client, record: Callable[..., Path]) -> None:
    ingest(run.id, record(run.id))
    listed = api.get(f"/api/runs/{run.id}/rollouts?step=1&purpose=train").json()
    assert listed["total"] == 8
    row = listed["rollouts"][0]
    rollout = api.get(f"/api/rollouts/{row['id']}").json()
    assert rollout.items() >= row.items()
    assert [turn["tool"] for turn in rollout["turns"]] == ["execute_bash", "finish"]
    assert rollout["prompt"] == f"Fix {row['task']}."


def test_what_does_not_exist_is_404(api: Client) -> None:
    for path in (f"/api/runs/{uuid4()}", f"/api/runs/{uuid4()}/events", f"/api/rollouts/{uuid4()}"):
        assert api.get(path).status_code == 404


def test_health_names_the_workers(run: Run, api: Client) -> None:
    assert api.get("/api/health").json() == {
        "status": "no workers",
        "workers": [],
        "queued": 1,
        "live": 0,
    }


def test_health_is_ok_with_a_worker(api: Client, worker: Worker) -> None:
    assert api.get("/api/health").json()["status"] == "ok"


@pytest.mark.parametrize("address", ["/api/runs?status=a%00", "/api/runs?a%00=b", "/api/%00"])
def test_a_nul_in_the_address_is_refused(api: Client, address: str):
    refused = api.get(address)
    assert refused.status_code == 400
    assert "NUL character" in refused.json()["detail"]


def test_a_nul_in_a_body_or_a_pages_filter_is_refused(api: Client, client: Client, alice: User):
    refused = post(api, "/api/runs", {"recipe": "starter-cpu", "name": "a\0b"})
    assert refused.status_code == 400
    assert "NUL character" in refused.json()["detail"]
    client.force_login(alice)
    assert client.get("/runs/?q=a%00").status_code == 400
