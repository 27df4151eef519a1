"""A run's process from claim to end: real processes of the stand-in, a real database."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from django.db import connection

from tests.web.conftest import STAND_IN, make_worker
from trainer.config import TrainConfig
from trainer.events import EVENTS_FILE
from trainer.nodes import guard as guards
from webapp.runs import lifecycle, placement, processes, supervise, workers
from webapp.runs.models import Event, Run, Worker

pytestmark = pytest.mark.django_db(transaction=True)

WAIT_S = 30


@pytest.fixture
def run(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Queued. What is left of it is killed after the test, and its children are reaped."""
    run = lifecycle.launch(config=config, name="first", owner=None)
    started: list[processes.Trainer] = []
    start = processes.start

    def remember(run_id: UUID, run_dir: Path) -> processes.Trainer:
        started.append(start(run_id, run_dir))
        return started[-1]

    monkeypatch.setattr(processes, "start", remember)
    yield run
    processes.sweep(run.id)
    for trainer in started:
        trainer.sweep()


@pytest.fixture
def worker() -> Worker:
    return make_worker("studio@here")


@pytest.fixture
def slow(settings) -> None:
    settings.TRAINER_COMMAND = [*STAND_IN, "--pace", "0.2"]


@pytest.fixture
def lingering(settings) -> None:
    """It waits after the first step, until it is stopped or killed; started again it does not."""
    settings.TRAINER_COMMAND = [*STAND_IN, "--linger", "1"]


class Supervisor(threading.Thread):
    """A worker's thread that supervises one run."""

    def __init__(self, run: Run, worker: Worker) -> None:
        super().__init__(daemon=True)
        self.run_id, self.worker, self.shutdown = run.id, worker, threading.Event()
        self.start()

    def run(self) -> None:
        supervise.supervise(self.run_id, self.worker, self.shutdown)
        connection.close()

    def end(self) -> None:
        self.join(WAIT_S)
        assert not self.is_alive()


def until(run: Run, holds: Callable[[Run], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds(run):
        assert time.monotonic() < deadline, (run.status, run.reason, run.last_seq)
        time.sleep(0.05)
        run.refresh_from_db()


def folder(run: Run) -> Path:
    run.refresh_from_db()
    return Path(run.run_dir)


def trainer_pid(run: Run) -> int:
    return int((folder(run) / processes.LOCK_FILE).read_text())


def assert_every_event_once(run: Run) -> None:
    written = (folder(run) / "events.jsonl").read_bytes().count(b"\n")
    assert list(Event.objects.filter(run=run).values_list("seq", flat=True)) == [
        *range(1, written + 1)
    ]


def assert_nothing_left(run: Run) -> None:
    assert list(processes._marked(run.id)) == []


def test_a_run_is_trained_to_its_end(run: Run, worker: Worker, settings) -> None:
    supervise.supervise(run.id, worker, threading.Event())
    run.refresh_from_db()
    assert (run.status, run.reason, run.current_step) == ("finished", "All steps done.", 2)
    assert run.lease is None
    assert run.finished_at == run.events.get(type="finished").time
    assert settings.RUNS_DIR.stat().st_mode & 0o777 == 0o700
    assert_every_event_once(run)
    assert_nothing_left(run)


def test_a_job_that_runs_twice_does_nothing_more(run: Run, worker: Worker) -> None:
    supervise.supervise(run.id, worker, threading.Event())
    count = run.events.count()
    supervise.supervise(run.id, worker, threading.Event())
    assert run.events.count() == count


@pytest.mark.usefixtures("slow")
def test_a_job_that_runs_twice_at_once_starts_one_process(run: Run, worker: Worker) -> None:
    first, second = Supervisor(run, worker), Supervisor(run, worker)
    until(run, lambda run: run.last_seq > 3)
    assert first.is_alive() != second.is_alive()
    lifecycle.request_stop(run, by="alice")
    first.end()
    second.end()
    assert run.events.filter(type="started").count() == 1


@pytest.mark.usefixtures("slow")
def test_a_stop_saves_a_checkpoint_and_leaves_nothing(run: Run, worker: Worker) -> None:
    supervisor = Supervisor(run, worker)
    until(run, lambda run: run.status == "running")
    asked = time.monotonic()
    lifecycle.request_stop(run, by="alice")
    supervisor.end()
    assert time.monotonic() - asked < 5
    run.refresh_from_db()
    assert (run.status, run.reason) == ("stopped", "Stopped by alice.")
    assert list(run.events.values_list("type", flat=True))[-2:] == ["checkpoint", "finished"]
    assert_nothing_left(run)


@pytest.mark.usefixtures("lingering")
def test_a_stopped_run_goes_on_from_its_checkpoint(run: Run, worker: Worker) -> None:
    supervisor = Supervisor(run, worker)
    until(run, lambda run: run.current_step >= 1)
    lifecycle.request_stop(run, by="alice")
    supervisor.end()
    run.refresh_from_db()
    assert run.status == "stopped"
    lifecycle.resume(run)
    supervise.supervise(run.id, worker, threading.Event())
    run.refresh_from_db()
    assert (run.status, run.attempt, run.current_step) == ("finished", 2, 2)
    assert_every_event_once(run)


def test_a_trainer_that_does_not_stop_is_killed(run: Run, worker: Worker, settings) -> None:
    settings.STOP_GRACE_S = 1
    settings.TRAINER_COMMAND = [*STAND_IN, "--deaf", "--pace", "0.5"]
    supervisor = Supervisor(run, worker)
    until(run, lambda run: run.status == "running")
    lifecycle.request_stop(run, by="alice")
    supervisor.end()
    run.refresh_from_db()
    assert run.status == "stopped"
    assert "was killed" in run.reason
    assert_nothing_left(run)


@pytest.mark.usefixtures("lingering")
def test_a_killed_trainer_resumes(run: Run, worker: Worker) -> None:
    supervisor = Supervisor(run, worker)
    until(run, lambda run: run.current_step >= 1)
    psutil.Process(trainer_pid(run)).send_signal(signal.SIGKILL)
    supervisor.end()
    run.refresh_from_db()
    assert (run.status, run.attempt) == ("finished", 2)
    assert_every_event_once(run)
    assert_nothing_left(run)


@pytest.mark.usefixtures("lingering")
def test_a_run_that_was_stopped_on_its_cluster_resumes(run: Run, worker: Worker, settings) -> None:
    """Its launcher ends by a signal then, though the last event says that the run has stopped."""
    last_word = f"tail -n 1 $0/{EVENTS_FILE} | grep -q stopped && kill -9 $$"
    trains = shlex.join(settings.TRAINER_COMMAND)
    settings.TRAINER_COMMAND = ["/bin/sh", "-c", f'{trains} $0 "$@"; {last_word}; true']
    supervisor = Supervisor(run, worker)
    until(run, lambda run: run.current_step >= 1)
    (trainer,) = psutil.Process(trainer_pid(run)).children()
    trainer.send_signal(signal.SIGTERM)
    supervisor.end()
    run.refresh_from_db()
    assert (run.status, run.attempt) == ("finished", 2)
    assert [e.payload["status"] for e in run.events.filter(type="finished")] == [
        "stopped",
        "finished",
    ]


def test_a_trainer_that_dies_in_a_loop_is_given_up(run: Run, worker: Worker, settings) -> None:
    settings.TRAINER_COMMAND = ["/bin/sh", "-c", "kill -9 $$"]
    supervise.supervise(run.id, worker, threading.Event())
    run.refresh_from_db()
    assert (run.status, run.reason) == ("failed", "Its process was killed 3 times at step 0.")


def test_a_trainer_that_refuses_is_quoted(run: Run, worker: Worker, settings) -> None:
    settings.TRAINER_COMMAND = [*STAND_IN, "--refuse", "engine.kind: no vLLM here"]
    supervise.supervise(run.id, worker, threading.Event())
    run.refresh_from_db()
    assert run.status == "failed"
    assert run.reason == "Its process ended with exit code 2: engine.kind: no vLLM here"


def test_a_trainer_that_cannot_be_started_is_said(run: Run, worker: Worker, settings) -> None:
    settings.TRAINER_COMMAND = ["/nowhere/python"]
    supervise.supervise(run.id, worker, threading.Event())
    run.refresh_from_db()
    assert run.status == "failed"
    assert "cannot be started: [Errno 2] No such file or directory" in run.reason


@pytest.mark.usefixtures("slow")
def test_a_worker_that_is_shut_down_gives_the_run_back(run: Run, worker: Worker) -> None:
    supervisor = Supervisor(run, worker)
    until(run, lambda run: run.status == "running")
    supervisor.shutdown.set()
    supervisor.end()
    run.refresh_from_db()
    assert (run.status, run.lease) == ("queued", None)
    assert run.events.order_by("seq").last().payload["status"] == "stopped"
    assert_nothing_left(run)


@pytest.mark.usefixtures("slow")
def test_a_new_worker_adopts_the_process_of_a_dead_one(run: Run, worker: Worker) -> None:
    claim = lifecycle.claim(run.id, worker)
    assert claim
    run_dir = supervise.prepare(run, worker)
    processes.start(run.id, run_dir)
    workers.take_up(worker)
    supervisor = Supervisor(run, worker)
    until(run, lambda run: run.last_seq > 2)
    lifecycle.request_stop(run, by="alice")
    supervisor.end()
    assert run.events.filter(type="started").count() == 1
    run.refresh_from_db()
    assert run.status == "stopped"
    assert_every_event_once(run)


def test_what_a_dead_worker_left_finished_is_settled(run: Run, worker: Worker) -> None:
    lifecycle.claim(run.id, worker)
    child = processes.start(run.id, supervise.prepare(run, worker)).child
    assert child
    child.wait(WAIT_S)
    workers.take_up(worker)
    supervise.supervise(run.id, worker, threading.Event())
    run.refresh_from_db()
    assert (run.status, run.attempt) == ("finished", 1)
    assert_every_event_once(run)


@pytest.mark.usefixtures("slow")
def test_two_processes_never_share_a_folder(run: Run, worker: Worker) -> None:
    run_dir = supervise.prepare(run, worker)
    processes.start(run.id, run_dir)
    with pytest.raises(BlockingIOError):
        processes.start(run.id, run_dir)


@pytest.mark.usefixtures("slow")
def test_a_supervisor_that_lost_its_lease_lets_go(
    run: Run, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "RENEW_S", 0)
    supervisor = Supervisor(run, worker)
    until(run, lambda run: run.status == "running")
    Run.objects.filter(id=run.id).update(lease="00000000-0000-0000-0000-000000000001")
    supervisor.end()
    assert processes.is_alive(folder(run))


@pytest.mark.usefixtures("slow")
def test_what_guards_a_dead_trainers_engine_ends_it_before_the_sweep(
    run: Run, tmp_path: Path
) -> None:
    cleaned_up = tmp_path / "cleaned up"
    engine = f"trap 'sleep 0.5; touch \"{cleaned_up}\"; exit' TERM; sleep 60 & wait"
    asker, ours = os.pipe()
    guard = subprocess.Popen(
        [sys.executable, str(Path(guards.__file__)), str(asker), "sh", "-c", engine],
        pass_fds=[asker],
        env=os.environ | {processes.MARK: str(run.id)},
        start_new_session=True,
    )
    time.sleep(1)
    os.close(ours)
    processes.Trainer(run.id, tmp_path, None).sweep()
    assert cleaned_up.exists()
    assert guard.wait(1) >= 0  # it was not killed
    os.close(asker)


def test_a_worker_ends_processes_of_runs_that_ended(run: Run, worker: Worker) -> None:
    processes.start(run.id, supervise.prepare(run, worker))
    Run.objects.filter(id=run.id).update(status="stopped")
    workers.take_up(worker)
    assert_nothing_left(run)


@pytest.mark.usefixtures("slow")
def test_training_goes_on_while_the_database_is_away(
    run: Run, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = Supervisor(run, worker)
    until(run, lambda run: run.status == "running")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE runs_event RENAME TO runs_event_away")
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        cursor.execute("ALTER TABLE runs_event_away RENAME TO runs_event")
    seen = run.last_seq
    until(run, lambda run: run.last_seq > seen + 5)
    lifecycle.request_stop(run, by="alice")
    supervisor.end()
    assert_every_event_once(run)


def test_an_unreadable_event_file_is_said_and_does_not_stop_training(
    run: Run, worker: Worker
) -> None:
    run_dir = supervise.prepare(run, worker)
    (run_dir / "events.jsonl").write_text('{"seq": 1, "type": "guess"}\n')
    supervise.supervise(run.id, worker, threading.Event())
    run.refresh_from_db()
    assert run.status == "failed"
    assert "events cannot be stored" in run.reason


@pytest.mark.usefixtures("slow")
def test_while_the_storage_is_away_training_goes_on_and_afterwards_nothing_is_missing(
    run: Run, worker: Worker, storage_away: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "RENEW_S", 0.5)
    supervisor = Supervisor(run, worker)
    until(run, lambda run: "cannot be stored: 503 Slow Down" in run.reason)
    assert processes.is_alive(Path(run.run_dir))
    while processes.is_alive(Path(run.run_dir)):
        time.sleep(0.1)
    storage_away.clear()
    supervisor.end()
    run.refresh_from_db()
    assert run.status == "finished"
    assert_every_event_once(run)


def test_a_run_whose_folder_cannot_be_made_fails_with_the_reason(
    run: Run, worker: Worker, settings, tmp_path: Path
) -> None:
    (tmp_path / "full").touch()
    settings.RUNS_DIR = tmp_path / "full"
    supervise.supervise(run.id, worker, threading.Event())
    run.refresh_from_db()
    assert run.status == "failed"
    assert run.reason.startswith("Its folder cannot be made: FileExistsError")


def test_a_configuration_of_another_version_waits_and_says_why(run: Run, worker: Worker) -> None:
    Run.objects.filter(id=run.id).update(config=run.config | {"teacher": "a larger model"})
    run.refresh_from_db()
    lifecycle.reap()
    assert lifecycle.claim(run.id, worker) is None
    assert "its configuration is none of this version's: teacher" in placement.waiting_for(run)


def test_a_worker_reports_what_it_has() -> None:
    worker = workers.report("studio@here", ["train"])
    assert worker.cores >= 1
    assert worker.memory_mib > 500
    assert worker.is_online
    assert Worker.objects.online().get() == worker


def test_a_worker_notices_an_engine_that_starts_after_it(settings, tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    settings.CHILD_ENVIRONMENT = settings.CHILD_ENVIRONMENT | {"DOCKER_HOST": f"unix://{path}"}
    worker = workers.report("studio@here", ["train"])
    assert "docker" not in worker.sandbox_backends
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(path))
        engine.listen()
        workers.say_alive(worker.id)
    worker.refresh_from_db()
    assert "docker" in worker.sandbox_backends
