"""A holder's sudden death leaves nothing that a reaper does not remove."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.base import SandboxLabels, SandboxSpec
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.bubblewrap.namespaces import host_uid
from sandbox.errors import SandboxGone

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, threading, time
from pathlib import Path
from sandbox.base import SandboxLabels, SandboxSpec
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.rootfs import COMPOSED_IMAGE

backend = BubblewrapBackend(state=Path(sys.argv[1]))
labels = SandboxLabels(run="run-a", rollout="x", owner="here:0", expires=time.time() + 600)
spec = SandboxSpec(docker_image=COMPOSED_IMAGE, labels=labels, files={"a": b"a"})
held = [backend.create(spec) for _ in range(3)]
for sandbox in held:
    busy = ["sh", "-c", "setsid sleep 1000 & head -c 5M /dev/zero > /tmp/f; sleep 1000"]
    run = lambda s=sandbox: s.exec(busy, timeout_s=900)
    threading.Thread(target=run, daemon=True).start()
time.sleep(1)
print(" ".join(s.id for s in held), flush=True)
time.sleep(600)
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def start_holder(state: Path) -> tuple[subprocess.Popen[str], list[str]]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(state)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    return holder, holder.stdout.readline().split()


def reap(state: Path, *options: str) -> dict[str, Any]:
    argv = [sys.executable, "-m", "sandbox.reap", "--state", str(state), *options]
    argv += ["--backend", "bubblewrap"]
    report: dict[str, Any] = json.loads(subprocess.check_output(argv, cwd=ROOT))
    return report


def processes_of(ids: list[str]) -> list[str]:
    uids = {host_uid(i) for i in ids} if os.geteuid() == 0 else set()
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        uid = int(text.split("Uid:\t")[1].split("\t")[0])
        if uid in uids and "State:\tZ" not in text:
            found.append(text.split("\n")[0])
    return found


def traces(ids: list[str], state: Path) -> list[str]:
    groups = [str(p) for i in ids for p in Path("/sys/fs/cgroup").rglob(f"deepswe-{i}")]
    mounts = [
        line for line in Path("/proc/mounts").read_text().splitlines() if "disk" in line.split()[0]
    ]
    return [*processes_of(ids), *groups, *mounts, *(p.name for p in state.glob("*"))]


def test_after_sigkill_of_the_holder_a_reaper_leaves_nothing(state: Path) -> None:
    holder, ids = start_holder(state)
    assert len(ids) == 3
    assert len(processes_of(ids)) >= 3
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    deadline = time.monotonic() + 5
    while processes_of(ids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(ids) == [], "processes die with their holder, before any reaper comes"
    assert sorted(reap(state)["removed"]) == sorted(ids)
    assert traces(ids, state) == []
    assert reap(state)["examined"] == 0


def test_a_living_holders_sandboxes_are_left_alone_unless_their_run_is_named(state: Path) -> None:
    holder, ids = start_holder(state)
    try:
        assert reap(state) == {"examined": 3, "removed": [], "errors": []}
        listed = reap(state, "--list", "--keep")["recorded"]["bubblewrap"]
        assert {(row["run"], row["abandoned"]) for row in listed} == {("run-a", False)}
        assert reap(state, "--run", "run-b")["removed"] == []
        assert len(processes_of(ids)) >= 3
        assert sorted(reap(state, "--run", "run-a")["removed"]) == sorted(ids)
        assert processes_of(ids) == []
    finally:
        holder.kill()
        holder.communicate()


def test_an_expired_sandbox_is_closed_by_its_own_backend(
    state: Path, spec: SandboxSpec, labels: SandboxLabels
) -> None:
    backend = BubblewrapBackend(state=state)
    expired = backend.create(replace(spec, labels=replace(labels, expires=time.time() - 1)))
    kept = backend.create(spec)
    assert backend.reap().removed == (expired.id,)
    with pytest.raises(SandboxGone, match="reaper"):
        expired.exec(["true"], timeout_s=5)
    assert kept.exec(["true"], timeout_s=5).ok
    kept.close()
    assert list(state.glob("*")) == []
    backend.close()


def test_every_backend_that_answers_is_reaped_and_the_others_are_named(state: Path) -> None:
    argv = [sys.executable, "-m", "sandbox.reap", "--state", str(state)]
    argv += ["--engine", "unix:///no/such.sock"]
    found = json.loads(subprocess.check_output(argv, cwd=ROOT))
    assert (found["examined"], found["removed"], found["errors"]) == (0, [], [])
    assert "/no/such.sock" in found["unavailable"]["docker"]
    asked = subprocess.run([*argv, "--backend", "docker"], cwd=ROOT, capture_output=True)
    assert asked.returncode == 1
