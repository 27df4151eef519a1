"""Evaluations from their pages: launch, the real process behind a scripted endpoint, crashes, stop, and what the pages show."""

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from sandbox.task import BUNDLED, Task, load_taskset
from tests.trainer.scripted_endpoint import Script, ScriptedEndpoint
from tests.web.conftest import make_worker
from tests.web.evaluated import (
    NAMES,
    config_of,
    form_data,
    in_thread,
    recorded_evaluation,
    wait_until,
)
from trainer.evaluations.config import EvalConfig, parse_evaluation
from trainer.evaluations.results import read_results, rewards_by_task
from trainer.events import Regraded, RolloutFinished, read_events
from webapp.assessments.selection import work_out_numbers
from webapp.evaluations import lifecycle, supervise
from webapp.evaluations.ingest import ingest
from webapp.evaluations.jobs import run_shard
from webapp.evaluations.models import Evaluation, EvaluationStatus, Shard, ShardEvent
from webapp.evaluations.overview import solve_rates
from webapp.evaluations.replay import replay
from webapp.rollouts.models import Rollout
from webapp.runs import processes, watched
from webapp.runs.models import Run
from webapp.tasksets.load import load
from webapp.webhooks.models import Delivery, Webhook

pytestmark = pytest.mark.django_db(transaction=True)

UNKNOWN = UUID(int=1)


@pytest.fixture(autouse=True)
def own_folder(settings, tmp_path: Path) -> None:
    settings.EVALUATIONS_DIR = tmp_path / "evaluations"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(load_taskset("starter").tasks) as started:
        yield started


@pytest.fixture(autouse=True)
def as_it_was(endpoint: ScriptedEndpoint) -> Iterator[None]:
    script = endpoint.script
    yield
    endpoint.script = script
    endpoint.answering.set()


@pytest.fixture(scope="module")
def config(endpoint: ScriptedEndpoint) -> EvalConfig:
    return config_of(endpoint, group_size=2)


@pytest.fixture(scope="module")
def recorded(config: EvalConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation that was made in a shell, in two shards."""
    return recorded_evaluation(config, tmp_path_factory.mktemp("recorded"))


@pytest.fixture
def evaluation(config: EvalConfig, alice: User) -> Evaluation:
    """Queued in two shards, of alice."""
    return lifecycle.launch(config=config, name="held out", owner=alice, num_shards=2)


@pytest.fixture
def done(recorded: Path) -> Evaluation:
    return replay(recorded, name="held out")


def test_an_evaluation_runs_in_shards_to_its_end(evaluation: Evaluation, settings) -> None:
    for shard in evaluation.shards.all():
        run_shard(shard.id)
    evaluation.refresh_from_db()
    assert evaluation.status == EvaluationStatus.FINISHED
    results = read_results(settings.EVALUATIONS_DIR / str(evaluation.id))
    rows = evaluation.counted_rollouts().order_by("task", "index")
    assert [(r.task, r.index, r.id, r.reward) for r in rows] == [
        (r.task, r.index, r.rollout, r.reward) for r in results
    ]
    assert len(results) == len(NAMES) * 2
    assert {r.reward for r in results} == {0.0, 1.0}
    last_seq = evaluation.last_seq
    assert sum(shard.events.count() for shard in evaluation.shards.all()) == last_seq
    assert evaluation.started_at
    assert evaluation.finished_at
    # a job that comes twice does nothing
    for shard in evaluation.shards.all():
        run_shard(shard.id)
    assert evaluation.last_seq == last_seq


def test_a_killed_process_goes_on_and_every_rollout_is_there_once(
    config: EvalConfig, alice: User, endpoint: ScriptedEndpoint
) -> None:
    evaluation = lifecycle.launch(config=config, name="killed", owner=alice)
    shard = evaluation.shards.get()

    script, asked = endpoint.script, len(endpoint.requests)

    def until_it_hangs(task: Task, seed: int) -> Script:
        if len(endpoint.requests) >= asked + 8:
            endpoint.answering.clear()
        return script(task, seed)

    def kill() -> None:
        scored = Rollout.objects.filter(evaluation=evaluation).exclude(reward=None)
        wait_until(lambda: scored.exists() and not endpoint.answering.is_set())
        for process in processes._marked(supervise.mark_of(shard)):
            process.kill()
        endpoint.script = script
        endpoint.answering.set()

    endpoint.script = until_it_hangs

    killer = in_thread(kill)
    run_shard(shard.id)
    killer.join()
    evaluation.refresh_from_db()
    assert evaluation.status == EvaluationStatus.FINISHED
    types = list(shard.events.values_list("type", flat=True))
    assert (types.count("started"), types.count("resumed"), types.count("finished")) == (1, 1, 1)
    places = list(evaluation.counted_rollouts().values_list("task", "index"))
    assert len(set(places)) == len(places) == len(NAMES) * 2


def test_another_machine_takes_over_and_goes_on_from_the_rows(
    done: Evaluation, endpoint: ScriptedEndpoint, settings, tmp_path: Path
) -> None:
    shard = done.shards.get(number=1)
    first = Rollout.objects.filter(evaluation=done, task=shard.tasks[0]).order_by("index").first()
    expected = dict(done.counted_rollouts().values_list("id", "reward"))
    # as if its worker had died before the last rollout, on a disk that nobody else sees
    cut = ShardEvent.objects.filter(shard=shard, payload__rollout=str(first.id)).latest("seq")
    lost = shard.events.filter(seq__gte=cut.seq)
    gone = {UUID(r) for r in lost.values_list("payload__rollout", flat=True) if r}
    Rollout.objects.filter(id__in=gone).delete()
    lost.delete()
    Shard.objects.filter(id=shard.id).update(
        status=EvaluationStatus.RUNNING,
        host="another",
        last_seq=cut.seq - 1,
        lease=uuid4(),
        lease_expires_at=timezone.now() - timedelta(seconds=1),
    )
    settings.EVALUATIONS_DIR = tmp_path / "here"
    lifecycle.reap()
    asked = len(endpoint.requests)
    run_shard(shard.id)
    done.refresh_from_db()
    assert done.status == EvaluationStatus.FINISHED
    rewards = dict(done.counted_rollouts().values_list("id", "reward"))
    kept = {rollout: reward for rollout, reward in expected.items() if rollout not in gone}
    assert kept.items() <= rewards.items()
    assert len(rewards) == len(expected)
    assert asked < len(endpoint.requests) <= asked + 2 * len(gone)
    shard.refresh_from_db()
    assert list(shard.events.values_list("seq", flat=True)) == list(range(1, shard.last_seq + 1))


def test_an_imported_taskset_is_found_by_every_worker(
    config: EvalConfig, alice: User, settings, tmp_path: Path
) -> None:
    folder = tmp_path / "outside"
    shutil.copytree(BUNDLED / "starter", folder)
    load(str(folder))
    folder.rename(tmp_path / "elsewhere")
    data = config.model_dump(mode="json")
    data["tasks"] |= {"taskset": str(folder), "only": NAMES[:2]}
    evaluation = lifecycle.launch(config=parse_evaluation(data), name="imported", owner=alice)
    shard = evaluation.shards.get()
    settings.TASKSETS_DIR = tmp_path / "first"
    run_shard(shard.id)
    evaluation.refresh_from_db()
    assert (evaluation.status, evaluation.config["tasks"]["taskset"]) == ("finished", str(folder))
    # as if its worker had died before the end, on a disk that nobody else sees
    settings.TASKSETS_DIR.rename(tmp_path / "lost")
    settings.TASKSETS_DIR = tmp_path / "second"
    settings.EVALUATIONS_DIR = tmp_path / "there"
    last = shard.events.latest("seq")
    last.delete()
    Shard.objects.update(
        status=EvaluationStatus.QUEUED, host="another", last_seq=last.seq - 1, lease=None
    )
    run_shard(shard.id)
    evaluation.refresh_from_db()
    assert evaluation.status == EvaluationStatus.FINISHED, evaluation.reason
    assert "resumed" in shard.events.values_list("type", flat=True)


def test_while_the_storage_is_away_rollouts_go_on_and_are_stored_afterwards(
    config: EvalConfig,
    alice: User,
    settings,
    storage_away: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watched, "RENEW_S", 0.2)
    evaluation = lifecycle.launch(config=config, name="away", owner=alice)
    shard = evaluation.shards.get()
    job = in_thread(lambda: run_shard(shard.id))
    path = settings.EVALUATIONS_DIR / str(evaluation.id) / "events.jsonl"
    wait_until(lambda: path.exists() and '"finished"' in path.read_text().splitlines()[-1])
    time.sleep(1)
    assert job.is_alive()
    storage_away.clear()
    job.join(30)
    evaluation.refresh_from_db()
    assert evaluation.status == EvaluationStatus.FINISHED
    assert not shard.events.filter(type="resumed").exists()
    assert all(rollout.files for rollout in evaluation.counted_rollouts())


def test_files_of_an_end_and_of_its_regrading_are_both_kept(recorded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(recorded, folder)
    place = next(folder.glob("shards/1-of-2"))
    events = [event for _, event in read_events(place / "events.jsonl")]
    ended = next(event for event in events if isinstance(event, RolloutFinished))
    (place / "again.log").write_text("graded again")
    told = ended.model_dump(include={"rollout", "outcome", "reward", "flags", "tests", "grade_s"})
    again = Regraded(
        **told, files={"again": "again.log"}, reason="", seq=events[-1].seq + 1, time=ended.time
    )
    with (place / "events.jsonl").open("a") as file:
        file.write(again.model_dump_json() + "\n")
    replay(folder, copy_files=True)
    assert ended.files
    assert Rollout.objects.get(id=ended.rollout).files.keys() == {*ended.files, "again"}


def test_a_process_that_says_nothing_is_not_settled_by_what_an_earlier_one_said(
    config: EvalConfig, alice: User, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = lifecycle.launch(config=config, name="again", owner=alice)
    shard = evaluation.shards.get()
    run_shard(shard.id)
    # the last events were left to be stored
    last = shard.events.latest("seq")
    path = settings.EVALUATIONS_DIR / str(evaluation.id) / "events.jsonl"
    size = len(path.read_bytes().splitlines(keepends=True)[-1])
    last.delete()
    Shard.objects.update(
        status=EvaluationStatus.QUEUED,
        last_seq=last.seq - 1,
        ingest_offset=path.stat().st_size - size,
    )
    monkeypatch.setattr(supervise, "COMMAND", [sys.executable, "-c", "raise SystemExit('no room')"])
    run_shard(shard.id)
    shard.refresh_from_db()
    assert (shard.status, shard.reason) == (
        "failed",
        "Its process ended with exit code 1: no room",
    )
    assert shard.last_seq == last.seq


def test_who_lost_the_shard_stores_nothing(done: Evaluation, recorded: Path) -> None:
    shard = done.shards.get(number=1)
    shard.events.all().delete()
    Shard.objects.filter(id=shard.id).update(ingest_offset=0, last_seq=0, lease=uuid4())
    assert ingest(shard.id, recorded / "shards" / "1-of-2", lease=uuid4()) == 0
    assert not shard.events.exists()


def test_a_shards_end_and_the_evaluations_are_one(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = evaluation.shards.get(number=1)
    lease = lifecycle.claim(shard.id, None)
    assert lease

    def dies_stand_in(evaluation_id: UUID) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "settle_whole", dies_stand_in)
        with pytest.raises(SystemExit):
            lifecycle.settle(shard.id, lease, EvaluationStatus.FINISHED, "")
    shard.refresh_from_db()
    assert shard.status == EvaluationStatus.RUNNING
    # and one that was left behind ends
    Shard.objects.update(status=EvaluationStatus.FINISHED, lease=None, lease_expires_at=None)
    lifecycle.reap()
    evaluation.refresh_from_db()
    assert evaluation.status == EvaluationStatus.FINISHED


def test_a_runs_checkpoint_is_evaluated_where_it_is(config: EvalConfig, alice: User) -> None:
    Run.objects.create(
        name="r", config={}, num_steps=1, run_dir="/disk/of/another/run", host="another"
    )
    path = "/disk/of/another/run/checkpoints/step_16"
    data = config.model_dump(mode="json")
    data["model"] |= {"path": path, "endpoint": ""}
    evaluation = lifecycle.launch(config=parse_evaluation(data), name="trained", owner=alice)
    shard = evaluation.shards.get()
    here = make_worker("able@here", queues=["evaluate"])
    assert lifecycle.claim(shard.id, here) is None
    told = lifecycle.waiting_for(evaluation)
    assert told.endswith("able@here cannot, its checkpoint is on another.")
    data["model"]["endpoint"] = config.model.endpoint
    served = lifecycle.launch(config=parse_evaluation(data), name="served", owner=alice)
    assert lifecycle.claim(served.shards.get().id, here)
    assert lifecycle.claim(shard.id, make_worker("able@another", queues=["evaluate"]))


def test_a_configuration_of_another_version_waits_and_says_why(evaluation: Evaluation) -> None:
    worker = make_worker("able@here", queues=["evaluate"])
    Evaluation.objects.update(config=evaluation.config | {"teacher": "a larger model"})
    evaluation.refresh_from_db()
    assert lifecycle.claim(evaluation.shards.first().id, worker) is None
    told = lifecycle.waiting_for(evaluation)
    assert "its configuration is none of this version's: teacher" in told


def test_a_stop_ends_it_and_it_can_go_on(
    config: EvalConfig, alice: User, endpoint: ScriptedEndpoint, client: Client
) -> None:
    endpoint.answering.clear()
    evaluation = lifecycle.launch(config=config, name="stopped", owner=alice)
    shard = evaluation.shards.get()
    job = in_thread(lambda: run_shard(shard.id))
    wait_until(lambda: Rollout.objects.filter(evaluation=evaluation).count() == 4)
    client.force_login(alice)
    answer = client.post(f"/evaluations/{evaluation.id}/stop/", follow=True)
    assert "Stopping" in answer.content.decode()
    job.join(30)
    assert not job.is_alive()
    evaluation.refresh_from_db()
    assert (evaluation.status, evaluation.reason) == ("stopped", "Stopped by alice.")
    endpoint.answering.set()
    client.post(f"/evaluations/{evaluation.id}/resume/")
    run_shard(evaluation.shards.get().id)
    evaluation.refresh_from_db()
    assert evaluation.status == EvaluationStatus.FINISHED
    scored = evaluation.counted_rollouts().exclude(reward=None)
    assert scored.count() == evaluation.counted_rollouts().count() == len(NAMES) * 2


def test_a_worker_takes_what_it_has_the_sandboxes_for(evaluation: Evaluation) -> None:
    shard = evaluation.shards.first()
    poor = make_worker("poor@here", queues=["evaluate"], sandbox_backends=["docker"])
    assert lifecycle.claim(shard.id, poor) is None
    told = lifecycle.waiting_for(evaluation)
    assert told.endswith("poor@here cannot, it has no sandbox backend bubblewrap.")
    able = make_worker("able@here", queues=["evaluate"], memory_mib=64)
    assert lifecycle.waiting_for(evaluation) == "Waits until a worker is free."
    # an endpoint has the model's memory
    assert lifecycle.claim(shard.id, able)
    assert lifecycle.claim(shard.id, able) is None


def test_a_worker_starts_one_engine_at_a_time(config: EvalConfig, alice: User) -> None:
    data = config.model_dump(mode="json")
    data["model"]["endpoint"] = ""
    needs_engine = parse_evaluation(data)
    first, second = (
        lifecycle.launch(config=needs_engine, name=name, owner=alice)
        for name in ("base", "trained")
    )
    worker = make_worker("able@here", queues=["evaluate"])
    lease = lifecycle.claim(first.shards.get().id, worker)
    assert lease
    assert lifecycle.claim(second.shards.get().id, worker) is None
    told = "Waits for an engine: that of able@here is at work for the evaluation base."
    assert lifecycle.waiting_for(second) == told
    with_endpoint = lifecycle.launch(config=config, name="elsewhere", owner=alice)
    assert lifecycle.claim(with_endpoint.shards.get().id, worker)
    lifecycle.settle(first.shards.get().id, lease, EvaluationStatus.FINISHED, "")
    assert lifecycle.claim(second.shards.get().id, worker)


def test_a_taskset_that_is_not_there_fails_with_the_reason(config: EvalConfig, alice: User) -> None:
    data = config.model_dump(mode="json")
    data["tasks"]["taskset"] = "nowhere"
    evaluation = lifecycle.launch(config=parse_evaluation(data), name="lost", owner=alice)
    run_shard(evaluation.shards.get().id)
    evaluation.refresh_from_db()
    assert evaluation.status == EvaluationStatus.FAILED
    assert "taskset 'nowhere'" in evaluation.reason


PAGES = [
    "",
    "?show=sometimes&q=bonus&sort=rate",
    "?show=never&sort=-rate",
    "header/",
    "tasks/",
    "figures.json",
]


def addresses(evaluation: Evaluation) -> list[str]:
    rollout = evaluation.counted_rollouts().filter(reward=1).first()
    return [
        "/evaluations/",
        "/evaluations/?status=finished&q=held",
        "/evaluations/new/",
        "/evaluations/new/?recipe=deepswe",
        *(f"/evaluations/{evaluation.pk}/{page}" for page in PAGES),
        f"/evaluations/compare/?first={evaluation.pk}&second={evaluation.pk}",
        f"/groups/{rollout.group_id}/",
        *(
            f"/rollouts/{rollout.pk}/{page}"
            for page in ("", "patch/", "tests/", "tokens/", "raw/", "turns/1/")
        ),
        f"/tasks/{rollout.task}/",
    ]


def test_every_page_works_within_its_queries_for_who_is_signed_in(
    client: Client, bob: User, done: Evaluation, django_assert_max_num_queries: Callable
) -> None:
    load("starter")
    work_out_numbers(done)
    for address in addresses(done):
        assert client.get(address).status_code == 302, address
    client.force_login(bob)
    for address in addresses(done):
        with django_assert_max_num_queries(18):
            response = client.get(address)
        assert response.status_code == 200, address


def test_the_page_shows_what_the_rollouts_say(
    client: Client, bob: User, done: Evaluation, recorded: Path
) -> None:
    client.force_login(bob)
    page = client.get(f"/evaluations/{done.pk}/").content.decode()
    rewards = rewards_by_task(read_results(recorded))
    mean = sum(sum(values) for values in rewards.values()) / 8
    assert f"{100 * mean:.1f} %" in page
    assert "pass@2" in page
    assert solve_rates(done) == {task: sum(values) / 2 for task, values in rewards.items()}
    for rollout in done.counted_rollouts():
        assert f"/rollouts/{rollout.pk}/" in page
    rollout = client.get(f"/rollouts/{done.counted_rollouts().first().pk}/").content.decode()
    assert f"/evaluations/{done.pk}/" in rollout
    figures = client.get(f"/evaluations/{done.pk}/figures.json").json()["figures"]
    names = {trace["name"] for trace in figures["curves"]["data"]}
    assert names == {
        "pass@k",
        *(f"best@k, {name}" for name in ("random", "vote", "shortest patch")),
    }


@pytest.mark.parametrize(
    "address",
    [
        *(f"/evaluations/{UNKNOWN}/{page}" for page in PAGES),
        "/evaluations/new/?recipe=nonsense",
        "/evaluations/new/?run=nonsense",
        f"/evaluations/new/?run={UNKNOWN}",
        "/evaluations/compare/?first=nonsense",
        f"/evaluations/compare/?first={UNKNOWN}&second={UNKNOWN}",
    ],
)
def test_what_is_not_there_is_404(client: Client, bob: User, address: str) -> None:
    client.force_login(bob)
    assert client.get(address).status_code == 404


def test_only_the_owner_and_staff_stop_and_resume(
    client: Client, bob: User, evaluation: Evaluation
) -> None:
    client.force_login(bob)
    page = client.get(f"/evaluations/{evaluation.pk}/").content.decode()
    assert "Stop the evaluation" not in page
    assert "none is online for the queue evaluate" in page
    for action in ("stop", "resume"):
        assert client.post(f"/evaluations/{evaluation.pk}/{action}/").status_code == 403
    bob.is_staff = True
    bob.save()
    client.post(f"/evaluations/{evaluation.pk}/stop/")
    evaluation.refresh_from_db()
    assert (evaluation.status, evaluation.reason) == ("stopped", "Stopped by bob.")


def test_the_form_launches_what_it_says(client: Client, alice: User, config: EvalConfig) -> None:
    client.force_login(alice)
    data = form_data(config, **{"tasks.only": ", ".join(NAMES)})
    answer = client.post("/evaluations/new/", data)
    evaluation = Evaluation.objects.get()
    assert answer["Location"] == f"/evaluations/{evaluation.pk}/"
    told = config.model_dump(mode="json") | {"recipe": "starter"}
    told["description"] = evaluation.config["description"]
    assert evaluation.config == told
    assert (evaluation.name, evaluation.owner, evaluation.shards.count()) == (
        "from the page",
        alice,
        2,
    )


def test_the_form_says_what_is_wrong_beside_the_field(
    client: Client, alice: User, config: EvalConfig
) -> None:
    client.force_login(alice)
    wrong = {"rollout.group_size": "0", "engine.max_model_len": "10", "num_shards": "99"}
    answer = client.post("/evaluations/new/", form_data(config, **wrong))
    assert answer.status_code == 422
    page = answer.content.decode()
    assert "greater than or equal to 1" in page
    assert "less than or equal to 64" in page
    assert not Evaluation.objects.exists()


def test_an_evaluation_from_a_shell_is_shown_as_it_was(
    client: Client, bob: User, done: Evaluation, recorded: Path
) -> None:
    client.force_login(bob)
    figures = client.get(f"/evaluations/{done.pk}/figures.json").content
    rollouts = list(done.counted_rollouts().order_by("id").values("id", "reward", "patch", "task"))
    Evaluation.objects.all().delete()
    again = replay(recorded, name="again", copy_files=True)
    assert (again.pk, again.name, again.status) == (done.pk, "again", "finished")
    assert list(
        again.counted_rollouts().order_by("id").values("id", "reward", "patch", "task")
    ) == (rollouts)
    assert client.get(f"/evaluations/{again.pk}/figures.json").content == figures


def test_two_are_compared_on_the_tasks_that_they_share(
    client: Client, bob: User, done: Evaluation, config: EvalConfig, endpoint: ScriptedEndpoint
) -> None:
    endpoint.script = lambda task, seed: ["<function=finish>\n"]
    data = config.model_dump(mode="json")
    data["tasks"]["only"] = NAMES[:3]
    other = lifecycle.launch(config=parse_evaluation(data), name="idle", owner=bob)
    run_shard(other.shards.get().id)
    client.force_login(bob)
    page = client.get(f"/evaluations/compare/?first={done.pk}&second={other.pk}").content.decode()
    assert "paired bootstrap over 3 tasks" in page
    lost = [task for task, rate in solve_rates(done).items() if rate and task[8:] in NAMES[:3]]
    assert lost
    for task in lost:
        assert f"/tasks/{task}/" in page
    assert f'<div class="vital-value">{len(lost)} <small>tasks</small>' in page


def test_an_end_is_told_to_its_owners_webhooks_once(evaluation: Evaluation, alice: User) -> None:
    Webhook.objects.create(user=alice, url="https://192.0.2.1/")
    assert lifecycle.request_stop(evaluation, by="alice")
    lifecycle.settle_whole(evaluation.id)
    told = Delivery.objects.get()
    assert told.type == "evaluation.stopped"
    assert json.loads(told.body)["data"]["id"] == str(evaluation.id)
