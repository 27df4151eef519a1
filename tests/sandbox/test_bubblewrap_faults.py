"""What a machine does to bubblewrap sandboxes: closed underneath, out of descriptors, records cut short. Each gives the error
that the contract names, and stops no other sandbox.
"""

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox import snapshot
from sandbox.base import SandboxLabels, SandboxSpec
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.bubblewrap.reap import reap_records
from sandbox.bubblewrap.records import HeldRecord, Record, claim, read_records
from sandbox.bubblewrap.sandbox import BubblewrapSandbox
from sandbox.errors import OUTCOME_OF_END, Outcome, SandboxGone, SandboxUnavailable, outcome_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def sandbox(bubblewrap: BubblewrapBackend, spec: SandboxSpec) -> Iterator[BubblewrapSandbox]:
    made = bubblewrap.create(spec)
    yield made
    made.close()


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """This process may open so many more files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def num_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def record(number: int, labels: SandboxLabels, group: Path | None = None) -> Record:
    folders = {"memory": str(group), "pids": str(group)} if group else {}
    return Record(id=f"{number:016x}", labels=labels, group_version=1, group_folders=folders)


def abandon(state: Path, made: Record) -> Path:
    """What is left of a record whose holder is dead."""
    held = HeldRecord(state, made)
    held._close()
    return held.path


def test_a_sandbox_whose_control_group_is_gone_is_gone(sandbox: BubblewrapSandbox) -> None:
    assert sandbox._group is not None
    sandbox._group.remove()
    with pytest.raises(SandboxGone):
        sandbox.exec(["true"], timeout_s=20)


def test_sandboxes_closed_under_running_commands_end_them_by_no_fault_of_the_agents(
    bubblewrap: BubblewrapBackend, spec: SandboxSpec
) -> None:
    held = [bubblewrap.create(spec) for _ in range(4)]
    found: list[Outcome | str] = []

    def drive(sandbox: BubblewrapSandbox) -> None:
        try:
            while True:
                result = sandbox.exec(["sh", "-c", "sleep 60 & sleep 60"], timeout_s=90)
                found.append(OUTCOME_OF_END[result.end])
        except SandboxGone as error:
            found.append(outcome_of(error))
        except Exception as error:
            found.append(repr(error))

    threads = [threading.Thread(target=drive, args=(sandbox,)) for sandbox in held]
    for thread in threads:
        thread.start()
    time.sleep(1)
    for sandbox in held:
        sandbox.close()
    for thread in threads:
        thread.join(timeout=20)
    assert len(found) >= len(held)
    assert set(found) == {Outcome.INFRA}


@pytest.mark.parametrize("count", [0, 2, 4, 6, 8])
def test_a_command_for_which_there_is_no_descriptor_is_not_run_and_leaves_none(
    sandbox: BubblewrapSandbox, count: int
) -> None:
    open_before = num_descriptors()
    with descriptors_left(count), pytest.raises(SandboxGone):
        sandbox.exec(["true"], timeout_s=20)
    assert num_descriptors() == open_before


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_sandbox_for_which_there_is_no_descriptor_cannot_be_had(
    bubblewrap: BubblewrapBackend, spec: SandboxSpec, count: int
) -> None:
    bubblewrap.create(spec).close()
    with descriptors_left(count), pytest.raises(SandboxUnavailable, match="Too many open files"):
        bubblewrap.create(spec)


def test_a_sandbox_that_cannot_be_written_down_cannot_be_had(
    state: Path, spec: SandboxSpec
) -> None:
    state.write_text("a file where the folder should be")
    backend = BubblewrapBackend(state=state)
    with pytest.raises(SandboxUnavailable, match="File exists"):
        backend.create(spec)
    backend.close()


def test_many_sandboxes_may_have_more_descriptors_than_a_login() -> None:
    script = """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
from sandbox.bubblewrap.backend import BubblewrapBackend
BubblewrapBackend()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], hard)
"""
    soft, hard = subprocess.check_output([sys.executable, "-c", script], cwd=ROOT).split()
    assert int(soft) == (1 << 16 if int(hard) < 0 else min(1 << 16, int(hard)))


def test_a_record_that_could_not_be_made_leaves_nothing(state: Path, labels: SandboxLabels) -> None:
    made = record(1, labels)
    (state / f"{made.id}.json").mkdir(parents=True)
    open_before = num_descriptors()
    with pytest.raises(OSError, match="directory"):
        HeldRecord(state, made)
    assert list(state.glob("*.new")) == []
    assert num_descriptors() == open_before


def test_a_record_is_on_the_disk_before_it_has_its_name(
    state: Path, labels: SandboxLabels, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, int]] = []
    fsync = os.fsync

    def watched(fd: int) -> None:
        fsync(fd)
        synced.append((Path(f"/proc/self/fd/{fd}").readlink().suffix, os.fstat(fd).st_size))

    monkeypatch.setattr(os, "fsync", watched)
    held = HeldRecord(state, record(1, labels))
    assert synced == [(".new", held.path.stat().st_size)]
    held.remove()


def test_a_removed_record_is_not_renewed_in_another_file(
    state: Path, labels: SandboxLabels, tmp_path: Path
) -> None:
    held = HeldRecord(state, record(1, labels))
    held.remove()
    with (tmp_path / "other").open("w+") as other:
        with pytest.raises(OSError, match="Bad file descriptor"):
            held.renew(time.time() + 60)
        held.remove()
        assert other.read() == ""


def test_a_sandbox_closed_while_it_is_renewed_is_gone(sandbox: BubblewrapSandbox) -> None:
    sandbox._record._close()
    with pytest.raises(SandboxGone, match="lease not renewed"):
        sandbox.renew(time.time() + 60)


@pytest.mark.parametrize("text", ["", '{"id": "1", "lab', "{}", "[]", '{"id": 1, "labels": {}}'])
def test_a_torn_record_stops_neither_reaper_nor_run_and_is_removed(
    state: Path, spec: SandboxSpec, labels: SandboxLabels, text: str
) -> None:
    backend = BubblewrapBackend(state=state)
    held = backend.create(spec)
    orphan = abandon(state, record(1, labels))
    torn = state / "0000000000000002.json"
    torn.write_text(text)
    assert {row.id for row in backend.recorded()} == {held.id, orphan.stem}
    assert torn.exists(), "a list removes nothing"
    report = backend.reap()
    assert (report.removed, report.errors) == ((orphan.stem,), ())
    assert [path.stem for path in state.glob("*")] == [held.id]
    held.close()
    backend.close()


def test_a_record_that_its_holder_is_still_writing_is_left_alone(
    state: Path, labels: SandboxLabels
) -> None:
    held = HeldRecord(state, record(1, labels))
    os.truncate(held.path, 5)
    assert reap_records(state, run=None, held={}).removed == ()
    assert held.path.exists()
    held.remove()


def test_an_orphans_record_outlives_a_control_group_that_cannot_be_removed_yet(
    state: Path, labels: SandboxLabels, tmp_path: Path
) -> None:
    """A folder with a file in it stands in for a busy group."""
    group = tmp_path / "group"
    (group / "busy").mkdir(parents=True)
    path = abandon(state, record(1, labels, group))
    report = reap_records(state, run=None, held={})
    assert (report.removed, len(report.errors)) == ((), 1)
    assert path.exists()
    (group / "busy").rmdir()
    assert reap_records(state, run=None, held={}).removed == (path.stem,)
    assert not group.exists()
    assert list(state.glob("*")) == []


def test_a_record_that_its_holder_removes_under_a_reaper_is_passed_over(
    state: Path, labels: SandboxLabels, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = abandon(state, record(1, labels))

    def removed_meanwhile(state: Path) -> Iterator[tuple[Path, Record]]:
        for found, row in list(read_records(state)):
            found.unlink()
            yield found, row

    monkeypatch.setattr("sandbox.bubblewrap.reap.read_records", removed_meanwhile)
    report = reap_records(state, run=None, held={})
    assert (report.examined, report.removed, report.errors) == (1, (), ())
    with pytest.raises(FileNotFoundError), claim(path):
        pass


def test_a_base_for_which_there_is_no_time_is_not_the_agents_fault(
    sandbox: BubblewrapSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.bubblewrap.sandbox._GIT_TIMEOUT_S", 1.0)
    slow = snapshot.DIFF_SCRIPT.replace("tar -xf", "sleep 60; tar -xf")
    monkeypatch.setattr("sandbox.snapshot.DIFF_SCRIPT", slow)
    with pytest.raises(SandboxGone, match="overloaded"):
        sandbox.diff()
