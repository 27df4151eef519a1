"""Verifying and regrading an evaluation that has ended: from the page and the API, the real processes, crashes and stops."""

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from sandbox.task import Task, load_taskset
from tests.trainer.judging_endpoint import JudgingEndpoint
from tests.trainer.scripted_endpoint import FINISH, Script
from tests.web.conftest import make_worker
from tests.web.evaluated import NAMES, config_of, in_thread, recorded_evaluation, wait_until
from trainer.evaluations.config import EvalConfig, parse_evaluation
from trainer.evaluations.counts import Counts, counts_path, line_of, read_counts
from trainer.evaluations.results import read_results
from trainer.evaluations.scores import read_scores, scores_path
from webapp.api.models import ApiToken
from webapp.assessments import lifecycle, results, supervise
from webapp.assessments.jobs import assess
from webapp.assessments.models import Assessment, Kind, Result
from webapp.assessments.selection import selection_of
from webapp.evaluations import lifecycle as evaluations
from webapp.evaluations.models import Evaluation
from webapp.evaluations.replay import replay
from webapp.leased_jobs import JobStatus
from webapp.verifiers.models import Verifier
from webapp.verifiers.registry import register

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def own_folder(settings, tmp_path: Path) -> None:
    settings.EVALUATIONS_DIR = tmp_path / "evaluations"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[JudgingEndpoint]:
    tasks = load_taskset("starter").tasks
    with JudgingEndpoint([t for t in tasks if t.task_id.partition("/")[2] in NAMES]) as started:
        yield started


@pytest.fixture(scope="module")
def config(endpoint: JudgingEndpoint) -> EvalConfig:
    return config_of(endpoint, group_size=3)


@pytest.fixture(scope="module")
def recorded(config: EvalConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation that was made in a shell, in two shards."""
    return recorded_evaluation(config, tmp_path_factory.mktemp("recorded"))


@pytest.fixture
def done(recorded: Path, alice: User) -> Evaluation:
    evaluation = replay(recorded, name="held out")
    evaluation.owner = alice
    evaluation.save()
    return evaluation


@pytest.fixture
def judge(endpoint: JudgingEndpoint, alice: User) -> Verifier:
    return register(name="judge", path="m", endpoint=endpoint.url, owner=alice)


def solved_by(evaluation: Evaluation) -> dict[UUID, float]:
    return {r.pk: 0.9 if r.reward else 0.2 for r in evaluation.counted_rollouts()}


def test_the_page_starts_a_verification_and_shows_what_it_is_worth(
    client: Client, alice: User, done: Evaluation, judge: Verifier, settings
) -> None:
    client.force_login(alice)
    address = f"/evaluations/{done.pk}/"
    assert f'<option value="{judge.name}">' in client.get(address).content.decode()
    answer = client.post(f"{address}verify/", {"verifier": "judge"})
    assert answer.headers["Location"] == f"{address}#selection"
    assessment = Assessment.objects.get()
    assert (assessment.status, assessment.num_wanted) == ("queued", 12)
    assert "none is online for the queue evaluate" in client.get(address).content.decode()
    assess(str(assessment.pk))
    assessment.refresh_from_db()
    assert (assessment.status, assessment.num_done) == ("finished", 12), assessment.reason
    assert assessment.reason == "12 rollouts scored, 0 were known, 0 have no score"
    scores = dict(Result.objects.values_list("rollout_id", "score"))
    assert {rollout: round(score, 6) for rollout, score in scores.items()} == solved_by(done)
    found = {method.name: method for method in selection_of(done).methods}
    summary = selection_of(done).verified["judge"]
    assert (summary.num_scored, summary.auc) == (12, 1.0)
    # it never errs: what it picks is solved wherever any rollout is
    solved = {r.task for r in done.counted_rollouts().filter(reward=1)}
    assert found["judge"].best == len(solved) / 4
    page = client.get(address).content.decode()
    assert page.count('reproduction tests that hold">0.90') == len(solved)
    figures = client.get(f"{address}figures.json").json()["figures"]
    assert "best@k, judge" in {trace["name"] for trace in figures["curves"]["data"]}
    # a job that comes twice does nothing
    assess(str(assessment.pk))
    assert Result.objects.count() == 12


def test_scores_go_on_where_they_were_on_another_machine(
    done: Evaluation, judge: Verifier, alice: User, endpoint: JudgingEndpoint, settings
) -> None:
    known = list(solved_by(done).items())[:5]
    Result.objects.bulk_create(Result(rollout_id=r, verifier=judge, score=v) for r, v in known)
    before = len(endpoint.requests)
    supervise.supervise(
        lifecycle.request(done, Kind.VERIFY, verifier=judge, owner=alice).pk,
        None,
        threading.Event(),
    )
    assert len(endpoint.requests) == before + 7
    assert Result.objects.count() == 12
    folder = settings.EVALUATIONS_DIR / str(done.pk)
    assert read_scores(scores_path(folder, "judge")).keys() == solved_by(done).keys()


def test_what_another_verifier_of_the_name_said_is_not_taken_for_this_ones(
    done: Evaluation, judge: Verifier, settings
) -> None:
    folder = settings.EVALUATIONS_DIR / str(done.pk)
    path = scores_path(folder, "judge")
    path.parent.mkdir(parents=True, exist_ok=True)
    old, new = list(solved_by(done))[:2]
    path.write_text(json.dumps({"rollout": str(old), "score": 0.5}) + "\n")
    removed_at = judge.created_at.timestamp() - 60
    os.utime(path, (removed_at, removed_at))
    Result.objects.create(rollout_id=new, verifier=judge, score=0.25)
    results.write(done, judge, folder)
    assert read_scores(path) == {new: 0.25}


def test_counts_that_are_made_anew_take_the_place_of_the_old(
    done: Evaluation, endpoint: JudgingEndpoint, alice: User, settings
) -> None:
    tests = register(name="tests", path="m", endpoint=endpoint.url, kind="tests", owner=alice)
    folder = settings.EVALUATIONS_DIR / str(done.pk)
    path = counts_path(folder, "tests")
    path.parent.mkdir(parents=True)
    again, same, elsewhere = list(solved_by(done))[:3]
    for rollout in (again, same, elsewhere):
        Result.objects.create(rollout_id=rollout, verifier=tests, regression=1, reproduction=2)
    kept = Result.objects.get(rollout_id=same)
    path.write_text(line_of(again, Counts(1, 0)) + line_of(same, Counts(1, 2)))
    before = results.state_of_results(done)
    assert results.store(done, tests, folder) == 2
    assert results.state_of_results(done) != before
    assert Result.objects.get(rollout_id=again).reproduction == 0
    assert Result.objects.get(rollout_id=same) == kept
    # what lies here is by the scripts that are here
    results.write(done, tests, folder)
    assert read_counts(path).keys() == {again, same}


def test_a_stop_ends_it_and_what_is_scored_stays(
    client: Client, done: Evaluation, judge: Verifier, alice: User, endpoint: JudgingEndpoint
) -> None:
    assessment = lifecycle.request(done, Kind.VERIFY, verifier=judge, owner=alice)
    endpoint.answering.clear()
    try:
        thread = in_thread(lambda: supervise.supervise(assessment.pk, None, threading.Event()))
        wait_until(lambda: Assessment.objects.get().status == JobStatus.RUNNING)
        client.force_login(alice)
        client.post(f"/evaluations/{done.pk}/assessment/stop/")
        thread.join(40)
        assert not thread.is_alive()
    finally:
        endpoint.answering.set()
    assessment.refresh_from_db()
    assert (assessment.status, assessment.reason) == ("stopped", "Stopped by alice.")
    # and it can be begun again
    again = lifecycle.request(done, Kind.VERIFY, verifier=judge, owner=alice)
    supervise.supervise(again.pk, None, threading.Event())
    assert Result.objects.count() == 12


def test_one_at_a_time_and_only_over_what_has_ended(
    done: Evaluation, judge: Verifier, alice: User, config: EvalConfig
) -> None:
    first = lifecycle.request(done, Kind.VERIFY, verifier=judge, owner=alice)
    assert lifecycle.request(done, Kind.VERIFY, verifier=judge, owner=alice) == first
    with pytest.raises(lifecycle.RefusedError, match="under way"):
        lifecycle.request(done, Kind.REGRADE, owner=alice)
    assert not evaluations.resume(done)
    running = evaluations.launch(config=config, name="live", owner=alice)
    with pytest.raises(lifecycle.RefusedError, match="queued: let it end first"):
        lifecycle.request(running, Kind.REGRADE, owner=alice)
    nameless = Verifier.objects.create(name="scores-only")
    with pytest.raises(lifecycle.RefusedError, match="register its model"):
        lifecycle.request(done, Kind.VERIFY, verifier=nameless, owner=alice)


def test_what_a_dead_worker_held_is_queued_again_and_two_claims_give_one_lease(
    done: Evaluation, judge: Verifier, alice: User
) -> None:
    assessment = lifecycle.request(done, Kind.VERIFY, verifier=judge, owner=alice)
    assert lifecycle.claim(assessment.pk, None)
    assert lifecycle.claim(assessment.pk, None) is None
    lifecycle.reap()
    assert Assessment.objects.get().status == JobStatus.RUNNING
    Assessment.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    lifecycle.reap()
    assert Assessment.objects.get().status == JobStatus.QUEUED
    Assessment.objects.request_stop(by="alice")
    assert Assessment.objects.get().status == JobStatus.STOPPED


def test_gradings_need_a_workers_sandboxes(done: Evaluation, judge: Verifier, alice: User) -> None:
    bare = make_worker("bare@here", queues=["evaluate"], sandbox_backends=[])
    assessment = lifecycle.request(done, Kind.REGRADE, owner=alice)
    assert lifecycle.claim(assessment.pk, bare) is None
    assert "no sandbox backend bubblewrap" in lifecycle.waiting_for(assessment)
    Assessment.objects.request_stop(by="alice")
    assessment = lifecycle.request(done, Kind.VERIFY, verifier=judge, owner=alice)
    assert lifecycle.claim(assessment.pk, bare)


def test_a_configuration_of_another_version_waits_and_says_why(
    done: Evaluation, alice: User
) -> None:
    worker = make_worker("able@here", queues=["evaluate"])
    assessment = lifecycle.request(done, Kind.REGRADE, owner=alice)
    Evaluation.objects.update(config=done.config | {"teacher": "a larger model"})
    assessment = Assessment.objects.get()
    assert lifecycle.claim(assessment.pk, worker) is None
    told = lifecycle.waiting_for(assessment)
    assert "its configuration is none of this version's: teacher" in told


def test_a_model_is_loaded_where_none_is(
    done: Evaluation, judge: Verifier, config: EvalConfig, alice: User
) -> None:
    worker = make_worker("able@here", queues=["evaluate"])
    data = config.model_dump(mode="json")
    data["model"]["endpoint"] = ""
    live = evaluations.launch(config=parse_evaluation(data), name="live", owner=alice)
    assert evaluations.claim(live.shards.get().id, worker)
    own_model = Verifier.objects.create(name="in-process", path="a/model")
    assessment = lifecycle.request(done, Kind.VERIFY, verifier=own_model, owner=alice)
    assert lifecycle.claim(assessment.pk, worker) is None
    told = "Waits until a model can be loaded: able@here is at work for the evaluation live."
    assert lifecycle.waiting_for(assessment) == told
    Assessment.objects.request_stop(by="alice")
    assessment = lifecycle.request(done, Kind.VERIFY, verifier=judge, owner=alice)
    assert lifecycle.claim(assessment.pk, worker), "at an endpoint"


def test_an_evaluation_waits_for_a_verifiers_model(
    done: Evaluation, config: EvalConfig, alice: User
) -> None:
    worker = make_worker("able@here", queues=["evaluate"])
    own_model = Verifier.objects.create(name="in-process", path="a/model")
    assessment = lifecycle.request(done, Kind.VERIFY, verifier=own_model, owner=alice)
    lease = lifecycle.claim(assessment.pk, worker)
    assert lease
    data = config.model_dump(mode="json")
    data["model"]["endpoint"] = ""
    waiting = evaluations.launch(config=parse_evaluation(data), name="waiting", owner=alice)
    shard = waiting.shards.get()
    assert evaluations.claim(shard.id, worker) is None
    told = "Waits for an engine: that of able@here is at work for the verifier in-process."
    assert evaluations.waiting_for(waiting) == told
    Assessment.objects.settle(assessment.pk, lease, JobStatus.FINISHED, "")
    assert evaluations.claim(shard.id, worker)


def script_of(user: User) -> Client:
    return Client(headers={"authorization": f"Bearer {ApiToken.issue(user, 'script')}"})


def post(client: Client, path: str, data: dict[str, Any] | None = None) -> Any:
    return client.post(path, data or {}, content_type="application/json")


def test_patches_are_graded_again_over_the_api(
    done: Evaluation, alice: User, bob: User, settings
) -> None:
    api, path = script_of(alice), f"/api/evaluations/{done.pk}"
    rollout = done.counted_rollouts().filter(reward=1).first()
    # as if it had been graded by a grader that was wrong
    done.counted_rollouts().filter(pk=rollout.pk).update(reward=0)
    assert post(script_of(bob), f"{path}/regrade").status_code == 403
    told = post(api, f"{path}/regrade").json()
    assert post(api, f"{path}/regrade").json()["id"] == told["id"]
    assert (told["kind"], told["status"], told["num_wanted"]) == ("regrade", "queued", 12)
    assess(told["id"])
    told = api.get(f"{path}/assessments/{told['id']}").json()
    assert (told["status"], told["num_done"]) == ("finished", 12), told["reason"]
    rollout.refresh_from_db()
    assert rollout.reward == 1
    done.refresh_from_db()
    assert done.status == "finished"
    results = read_results(settings.EVALUATIONS_DIR / str(done.pk))
    assert {r.rollout: r.reward for r in results} == dict(
        done.counted_rollouts().values_list("pk", "reward")
    )
    assert post(api, f"{path}/assessments/{told['id']}/cancel").status_code == 409
    headers = {"Idempotency-Key": "again"}
    again = [
        api.post(f"{path}/regrade", {}, content_type="application/json", headers=headers).json()
        for _ in range(2)
    ]
    assert again[0]["id"] == again[1]["id"] != told["id"]


def test_a_verification_is_begun_watched_and_cancelled_over_the_api(
    done: Evaluation, judge: Verifier, alice: User, bob: User
) -> None:
    api, path = script_of(alice), f"/api/evaluations/{done.pk}"
    assert post(script_of(bob), f"{path}/verify", {"verifier": "judge"}).status_code == 403
    assert post(api, f"{path}/verify", {"verifier": "nobody"}).status_code == 404
    told = post(api, f"{path}/verify", {"verifier": "judge"}).json()
    assert (told["status"], told["verifier"]) == ("queued", "judge")
    assert post(api, f"{path}/verify", {"verifier": "judge"}).json()["id"] == told["id"]
    assert post(api, f"{path}/regrade").status_code == 409
    cancelled = post(api, f"{path}/assessments/{told['id']}/cancel").json()
    assert (cancelled["status"], cancelled["reason"]) == ("stopped", "Stopped by alice.")
    told = post(api, f"{path}/verify", {"verifier": "judge"}).json()
    assess(told["id"])
    listed = api.get(f"{path}/assessments").json()["assessments"]
    assert [row["status"] for row in listed] == ["finished", "stopped"]
    results = api.get(f"{path}/results").json()
    assert set(results["curves"]) == {"pass@k", "random", "shortest patch", "vote", "judge"}
    assert {row["id"]: round(row["scores"]["judge"], 6) for row in results["results"]} == {
        str(rollout): score for rollout, score in solved_by(done).items()
    }


def test_a_verifier_that_is_no_model_fails_with_what_was_said(
    done: Evaluation, alice: User, tmp_path: Path
) -> None:
    gone = register(name="gone", path=str(tmp_path), owner=alice)
    assessment = lifecycle.request(done, Kind.VERIFY, verifier=gone, owner=alice)
    supervise.supervise(assessment.pk, None, threading.Event())
    assessment.refresh_from_db()
    assert assessment.status == JobStatus.FAILED
    assert str(tmp_path) in assessment.reason


def test_a_replay_finds_the_scores_beside_the_events(
    recorded: Path, tmp_path: Path, alice: User, judge: Verifier
) -> None:
    folder = tmp_path / "copy"
    call_command("replay_evaluation", str(recorded))
    first = read_results(recorded)[0].rollout
    folder.symlink_to(recorded)
    path = scores_path(recorded, "from-a-shell")
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'{{"rollout": "{first}", "score": 0.75}}\n')
    try:
        evaluation = replay(folder)
    finally:
        path.unlink()
    assert [(s.rollout_id, s.verifier.name, s.score) for s in Result.objects.all()] == [
        (first, "from-a-shell", 0.75)
    ]
    assert selection_of(evaluation).verified["from-a-shell"].num_scored == 1


def test_only_the_owner_and_staff_begin_and_stop(
    client: Client, bob: User, done: Evaluation, judge: Verifier
) -> None:
    client.force_login(bob)
    page = client.get(f"/evaluations/{done.pk}/").content.decode()
    assert "Grade again" not in page
    for action in ("verify/", "regrade/", "assessment/stop/"):
        answer = client.post(f"/evaluations/{done.pk}/{action}", {"verifier": "judge"})
        assert answer.status_code == 403
    bob.is_staff = True
    bob.save()
    assert client.post(f"/evaluations/{done.pk}/regrade/").status_code == 302


def test_the_panel_asks_few_questions_and_for_the_page_once_it_has_ended(
    client: Client,
    alice: User,
    done: Evaluation,
    judge: Verifier,
    django_assert_max_num_queries: Callable,
) -> None:
    client.force_login(alice)
    address = f"/evaluations/{done.pk}/selection/"
    lifecycle.request(done, Kind.VERIFY, verifier=judge, owner=alice)
    headers = {"HX-Request": "true"}
    with django_assert_max_num_queries(14):
        answer = client.get(address, headers=headers)
    assert "HX-Refresh" not in answer.headers
    assert 'data-refresh="3"' in answer.content.decode()
    Assessment.objects.request_stop(by="alice")
    assert client.get(address, headers=headers).headers["HX-Refresh"] == "true"
    assert client.get(f"/evaluations/{UUID(int=1)}/selection/").status_code == 404


def shows_the_issue(task: Task, seed: int) -> Script:
    """An agent that leaves a script whose one case looks for what the gold patch adds."""
    added = [line[1:] for line in task.gold_patch.splitlines() if re.match(r"\+[^+]", line)]
    text = f"""
import pathlib
text = "".join(p.read_text() for p in pathlib.Path(".").rglob("*.py") if p.name != "test_issue.py")
print("Issue resolved" if all(line in text for line in {added!r}) else "Issue reproduced")
"""
    call = "<function=file_editor>\n<parameter=command>create</parameter>\n"
    call += "<parameter=path>/testbed/test_issue.py</parameter>\n"
    return [f"{call}<parameter=file_text>{text}</parameter>\n", FINISH]


def test_tests_that_an_agent_writes_verify_too_and_make_hybrids(
    client: Client, done: Evaluation, judge: Verifier, alice: User, endpoint: JudgingEndpoint
) -> None:
    known = solved_by(done)
    Result.objects.bulk_create(
        Result(rollout_id=rollout, verifier=judge, score=0.5) for rollout in known
    )
    tests = register(name="tests", path="m", endpoint=endpoint.url, kind="tests", owner=alice)
    script, endpoint.script = endpoint.script, shows_the_issue
    try:
        assessment = lifecycle.request(done, Kind.VERIFY, verifier=tests, owner=alice)
        supervise.supervise(assessment.pk, None, threading.Event())
    finally:
        endpoint.script = script
    assessment.refresh_from_db()
    assert (assessment.status, assessment.num_done) == ("finished", 12), assessment.reason
    rows = Result.objects.filter(verifier=tests).values_list("rollout_id", "reproduction")
    assert dict(rows) == {rollout: int(score == 0.9) for rollout, score in known.items()}
    found = {method.name: method for method in selection_of(done).methods}
    solved = {r.task for r in done.counted_rollouts().filter(reward=1)}
    for name in ("tests", "judge + tests, paper's hybrid", "judge + tests, code's hybrid"):
        assert found[name].best == len(solved) / 4
    client.force_login(alice)
    page = client.get(f"/evaluations/{done.pk}/").content.decode()
    assert page.count('reproduction tests that hold">0 + 1') == len(solved)
    results = script_of(alice).get(f"/api/evaluations/{done.pk}/results").json()["results"]
    assert {
        UUID(row["id"]): row["test_counts"]["tests"]["reproduction"] for row in results
    } == dict(rows)
