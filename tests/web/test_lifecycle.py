"""Status changes: of two who try, one succeeds; leases; what a queued run waits for."""

import os
from datetime import timedelta
from pathlib import Path
from threading import Barrier, Thread

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection
from django.utils import timezone

from tests.web.conftest import make_worker
from trainer.config import TrainConfig
from webapp.runs import lifecycle
from webapp.runs.models import Run, RunStatus, Worker
from webapp.runs.placement import obstacle, waiting_for
from webapp.runs.workers import report


def status(run: Run) -> str:
    run.refresh_from_db()
    return run.status


def expire(run: Run, ago: timedelta = timedelta(seconds=1)) -> None:
    Run.objects.filter(id=run.id).update(lease_expires_at=timezone.now() - ago)


def test_a_queued_run_is_claimed_once(run: Run, worker: Worker) -> None:
    other = make_worker("studio@there")
    assert lifecycle.claim(run.id, worker)
    assert lifecycle.claim(run.id, other) is None
    assert lifecycle.claim(run.id, worker) is None
    assert status(run) == "starting"


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_at_once_one_gets_the_run(config: TrainConfig) -> None:
    run = lifecycle.launch(config=config, name="wanted", owner=None)
    workers = [make_worker(f"studio@host{number}") for number in range(4)]
    barrier, claims = Barrier(4), []

    def grab(worker: Worker) -> None:
        barrier.wait()
        claims.append(lifecycle.claim(run.id, worker))
        connection.close()

    threads = [Thread(target=grab, args=[worker]) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([claim for claim in claims if claim]) == 1


def test_a_worker_trains_one_run_at_a_time(run: Run, worker: Worker, config: TrainConfig) -> None:
    second = lifecycle.launch(config=config, name="second", owner=None)
    assert lifecycle.claim(run.id, worker)
    assert lifecycle.claim(second.id, worker) is None
    assert waiting_for(second) == "Number 1 in the queue: waits until a worker is free."


def test_a_run_is_lost_with_its_lease(run: Run, worker: Worker) -> None:
    first = lifecycle.claim(run.id, worker)
    expire(run)
    second = lifecycle.claim(run.id, worker)
    assert first
    assert second
    assert not second.fresh
    assert not lifecycle.renew(run.id, first.lease)
    assert not lifecycle.settle(run.id, first.lease, RunStatus.FAILED, "late")
    assert lifecycle.renew(run.id, second.lease)


def test_an_expired_lease_that_nobody_took_is_renewed(run: Run, worker: Worker) -> None:
    claim = lifecycle.claim(run.id, worker)
    expire(run)
    assert claim
    assert lifecycle.renew(run.id, claim.lease)


def test_stopping_a_queued_run_ends_it(run: Run) -> None:
    assert lifecycle.request_stop(run, by="alice")
    assert status(run) == "stopped"
    assert run.reason == "Stopped by alice."
    assert not lifecycle.request_stop(run, by="alice")


def test_stopping_a_live_run_asks_its_supervisor(run: Run, worker: Worker) -> None:
    claim = lifecycle.claim(run.id, worker)
    assert lifecycle.request_stop(run, by="alice")
    assert status(run) == "stopping"
    assert claim
    assert not lifecycle.requeue(run.id, claim.lease, "shut down")
    assert lifecycle.settle(run.id, claim.lease, RunStatus.STOPPED, "done")
    assert status(run) == "stopped"


def test_only_stopped_and_failed_runs_resume(run: Run, worker: Worker) -> None:
    assert not lifecycle.resume(run)
    lifecycle.request_stop(run, by="alice")
    assert lifecycle.resume(run)
    assert status(run) == "queued"
    claim = lifecycle.claim(run.id, worker)
    assert claim
    lifecycle.settle(run.id, claim.lease, RunStatus.FINISHED, "all steps done")
    assert not lifecycle.resume(run)


def test_a_stop_that_nobody_confirms_is_taken_for_done(run: Run, worker: Worker) -> None:
    lifecycle.claim(run.id, worker)
    lifecycle.request_stop(run, by="alice")
    expire(run, timedelta(seconds=30))
    lifecycle.reap()
    assert status(run) == "stopping"
    expire(run, timedelta(seconds=90))
    lifecycle.reap()
    assert status(run) == "stopped"


def test_reaping_sends_again_what_was_lost(
    run: Run, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    monkeypatch.setattr(lifecycle, "send", sent.append)
    lifecycle.reap()
    assert sent == [run.id]
    lifecycle.claim(run.id, worker)
    lifecycle.reap()
    assert sent == [run.id]
    expire(run)
    lifecycle.reap()
    assert sent == [run.id, run.id]


def test_owner_and_staff_may_change_a_run(run: Run, alice: User, bob: User) -> None:
    assert lifecycle.may_change(alice, run)
    assert not lifecycle.may_change(bob, run)
    assert not lifecycle.may_change(AnonymousUser(), run)
    bob.is_staff = True
    assert lifecycle.may_change(bob, run)


def test_a_queued_run_says_that_no_worker_is_online(run: Run) -> None:
    make_worker("gone@here", heartbeat_at=timezone.now() - timedelta(minutes=1))
    make_worker("stopped@here", stopped_at=timezone.now())
    make_worker("other@here", queues=["default"])
    assert "none is online for the queue train" in waiting_for(run)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"memory_mib": 50}, "it has 0 GiB of memory and the recipe needs 0.1"),
        ({"sandbox_backends": ["docker"]}, "it has no sandbox backend bubblewrap"),
    ],
)
def test_a_queued_run_says_what_its_worker_lacks(
    run: Run, fields: dict[str, object], why: str
) -> None:
    small = make_worker("small@here", **fields)
    assert waiting_for(run) == f"Waits for a worker that can train it: small@here cannot, {why}."
    assert lifecycle.claim(run.id, small) is None


def on_nodes(nodes: int, config: TrainConfig) -> Run:
    """A queued run whose recipe asks of each node what no worker here has."""
    hardware = config.hardware.model_copy(
        update={"nodes": nodes, "gpus_per_node": 8, "min_memory_gib": 1000}
    )
    config = config.model_copy(update={"hardware": hardware})
    return lifecycle.launch(config=config, name="on nodes", owner=None)


def test_a_run_on_nodes_goes_to_a_worker_that_trains_on_a_cluster_and_to_no_other(
    config: TrainConfig, worker: Worker
) -> None:
    two = on_nodes(2, config)
    why = "it trains on its own machine alone and the recipe needs 2"
    assert waiting_for(two) == f"Waits for a worker that can train it: studio@here cannot, {why}."
    cluster = make_worker("cluster@here", cluster_nodes=2, memory_mib=2048, sandbox_backends=[])
    assert waiting_for(two) == "A worker is about to take it."
    assert lifecycle.claim(two.id, worker) is None
    assert obstacle(on_nodes(3, config), cluster) == (
        "it trains on up to 2 nodes and the recipe needs 3"
    )
    assert lifecycle.claim(two.id, cluster)


def test_a_worker_says_that_its_runs_train_on_a_cluster(settings, db: None) -> None:
    assert report("local@here", ["train"]).cluster_nodes == 0
    settings.TRAINER_NODES = 4
    assert report("cluster@here", ["train"]).cluster_nodes == 4


def test_a_run_goes_on_where_its_folder_is(run: Run, worker: Worker) -> None:
    Run.objects.filter(id=run.id).update(host="elsewhere", run_dir="/nowhere")
    run.refresh_from_db()
    assert waiting_for(run).endswith("its checkpoint is on elsewhere.")
    assert lifecycle.claim(run.id, worker) is None


@pytest.mark.skipif(
    os.geteuid() != 0, reason="takes root to become a user who may not enter a folder"
)
def test_a_run_folder_that_this_user_may_not_enter_is_elsewhere(
    run: Run, worker: Worker, tmp_path: Path
) -> None:
    folder = tmp_path / "closed" / "run"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    run.host, run.run_dir = "elsewhere", str(folder)
    os.setresuid(65534, 65534, 0)
    try:
        said = obstacle(run, worker)
    finally:
        os.setresuid(0, 0, 0)
    assert said == "its checkpoint is on elsewhere"


def test_queued_runs_know_their_place(run: Run, worker: Worker, config: TrainConfig) -> None:
    second = lifecycle.launch(config=config, name="second", owner=None)
    assert waiting_for(run) == "A worker is about to take it."
    assert waiting_for(second).startswith("Number 2 in the queue")
