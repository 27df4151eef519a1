"""A supervisor's child process: what it outlives, and who may end it. Real processes; the faults of database and storage are
stand-ins.
"""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import OperationalError

from webapp.runs import watched
from webapp.runs.event_files import StorageAway


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "POLL_S", 0.05)
    monkeypatch.setattr(watched, "RENEW_S", 0.1)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started = []

    def one(command: str, mark=None) -> subprocess.Popen[bytes]:
        started.append(watched.start(["sh", "-c", command], tmp_path, mark or uuid4()))
        return started[-1]

    yield one
    for process in started:
        process.kill()
        process.wait()


def lease_of(renew: Callable[[], bool]) -> watched.HeldLease:
    return watched.HeldLease(uuid4(), renew)


def watch(process: subprocess.Popen[bytes], look, lease, shutdown=None) -> bool:
    return watched.watch(
        process,
        look=look,
        lease=lease,
        shutdown=shutdown or threading.Event(),
        stop_wanted=lambda: False,
        grace_s=5,
    )


class AwayStandIn:
    """Fails so many times, as what is away does."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times, self.succeeded = error, times, 0

    def __call__(self) -> None:
        if self.times:
            self.times -= 1
            raise self.error
        self.succeeded += 1


@pytest.mark.parametrize("error", [OperationalError("gone"), StorageAway("503 Slow Down")])
def test_a_process_outlives_a_database_or_storage_that_is_away(start, error: Exception) -> None:
    # still away when the process has ended
    process, look = start("sleep 0.5"), AwayStandIn(error, 12)
    assert watch(process, look, lease_of(lambda: True))
    assert (process.returncode, look.succeeded) == (0, 1)


def test_at_a_shutdown_what_cannot_be_stored_is_said(start) -> None:
    shutdown = threading.Event()
    shutdown.set()
    look = AwayStandIn(StorageAway("503 Slow Down"), 1000)
    with pytest.raises(StorageAway):
        watch(start("true"), look, lease_of(lambda: True), shutdown)


def test_the_lease_is_renewed_while_its_holder_is_busy_and_the_database_away() -> None:
    asked = []

    def renew() -> bool:
        asked.append(time.monotonic())
        if len(asked) == 2:
            raise OperationalError("gone")
        return True

    with lease_of(renew) as lease:
        time.sleep(1)
        assert not lease.lost
    assert len(asked) >= 5


def test_who_lost_the_lease_stores_nothing_and_ends_its_own_process_alone(start) -> None:
    mark = uuid4()
    ours, next_ones = start("sleep 60 & sleep 60", mark), start("sleep 60", mark)
    look = AwayStandIn(OperationalError(), 0)
    with lease_of(lambda: False) as lease:
        while not lease.lost:
            time.sleep(0.05)
        assert not watch(ours, look, lease)
        watched.end(ours, mark, lease)
    assert look.succeeded == 0
    assert (ours.returncode, next_ones.poll()) == (-9, None)


def test_who_lost_the_lease_when_its_process_ended_is_told_so(start) -> None:
    assert not watch(start("true"), lambda: None, lease_of(lambda: False))


def test_a_holder_ends_all_that_its_process_started(start) -> None:
    mark = uuid4()
    process, elsewhere = start("sleep 60", mark), start("sleep 60", mark)
    watched.end(process, mark, lease_of(lambda: True))
    assert elsewhere.wait(5) is not None
