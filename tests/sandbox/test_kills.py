"""Workers killed by SIGKILL in every phase of a sandbox's life: after the reaper, nothing of theirs is left.

KILLS says how many on each backend; `make kill-test N=200` runs many. The moments are spread evenly over the phases and
at random within each.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest

from sandbox.available import docker_address
from sandbox.bubblewrap.namespaces import host_uid
from sandbox.bubblewrap.records import read_records
from sandbox.kubernetes.api import Api
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.labels import LABEL
from tests.cluster.live import Node, Pods
from tests.docker_engine import DockerEngine
from tests.sandbox.doomed_worker import PHASES, backend_at

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("KILLS", "20"))
AT_ONCE = 4
LONGEST_S = {"create": 0.8, "exec": 0.6, "diff": 0.4, "grade": 1.0, "close": 0.3}
"""About how long each phase takes: the moment of death is drawn from it."""
LONGEST_ON_A_CLUSTER_S = {"create": 10.0, "exec": 0.8, "diff": 0.5, "grade": 4.0, "close": 0.3}
"""The first creation tries out the network and makes the base."""
A_ROUND = 40
"""Kills between two sweeps of a cluster, whose node would be full of what the dead have left."""
SETTLE_S = 180.0
"""A cluster takes its time to forget a pod."""


def kill_one(name: str, place: str, phase: str, moment: float) -> str:
    """Start a worker, kill it `moment` of the way through `phase`; the phase, if it got there."""
    argv = [sys.executable, "-m", "tests.sandbox.doomed_worker", name, place, phase]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout
        entered = worker.stdout.readline().strip()
        longest_s = LONGEST_ON_A_CLUSTER_S if name == "kubernetes" else LONGEST_S
        time.sleep(moment * longest_s[phase])
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        assert worker.returncode == -signal.SIGKILL
    return entered


def kill_many(name: str, place: str, first: int = 0, last: int = KILLS) -> None:
    """The kills from number `first` to before number `last`."""
    rng = random.Random(first)
    phases = [PHASES[number % len(PHASES)] for number in range(first, last)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        entered = list(pool.map(lambda p: kill_one(name, place, p, rng.random()), phases))
    assert entered == phases


def reap_until_clean(name: str, place: str, traces: Callable[[], list[str]]) -> int:
    """How many sandboxes the reaper removed; fails if traces stay."""
    backend, removed = backend_at(name, place), 0
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        report = backend.reap()
        removed += len(report.removed)
        # a node that is short of processor time may need another round, and the reaper says so
        if not report.errors and not traces():
            break
        time.sleep(0.5)
    backend.close()
    assert (report.errors, traces()) == ((), [])
    return removed


def test_killed_workers_leave_nothing_of_bubblewrap(tmp_path: Path) -> None:
    state = tmp_path / "state"
    kill_many("bubblewrap", str(state))
    ids = [record.id for _, record in read_records(state)]
    uids = {host_uid(i) for i in ids} if os.geteuid() == 0 else set()

    def traces() -> list[str]:
        owned = [proc for proc in Path("/proc").glob("[0-9]*") if _uid(proc) in uids]
        # by os.walk, which passes over the groups of other sandboxes that vanish meanwhile
        folders = [f"{f}/{name}" for f, names, _ in os.walk("/sys/fs/cgroup") for name in names]
        groups = [folder for folder in folders if folder.rpartition("/deepswe-")[2] in ids]
        return [str(path) for path in (*owned, *groups, *state.glob("*"))]

    removed = reap_until_clean("bubblewrap", str(state), traces)
    assert removed == len(ids) > 0
    print(f"bubblewrap: {KILLS} workers killed, {removed} sandboxes reaped, nothing left")


def _uid(proc: Path) -> int:
    try:
        return -1 if "State:\tZ" in (proc / "status").read_text() else proc.stat().st_uid
    except OSError:
        return -1


@pytest.mark.docker
def test_killed_workers_leave_nothing_of_docker() -> None:
    url = docker_address(os.environ)
    engine = DockerEngine.at(url)
    kill_many("docker", url)

    def traces() -> list[str]:
        if engine is not None:
            return engine.leftovers()
        client = docker.DockerClient(base_url=url)
        left = client.api.containers(all=True, filters={"label": f"{LABEL}.run=doomed"})
        client.close()
        return [row["Id"] for row in left]

    removed = reap_until_clean("docker", url, traces)
    assert removed > 0
    print(f"docker: {KILLS} workers killed, {removed} sandboxes reaped, nothing left")


@pytest.mark.k8s
def test_killed_workers_leave_nothing_of_kubernetes(kubernetes_options: dict[str, Any]) -> None:
    place, folder = json.dumps(kubernetes_options), os.environ.get("STUDIO_TEST_NODE")
    pods = Pods(Api(KubernetesOptions(namespace=kubernetes_options["namespace"])))
    node = Node(Path(folder)) if folder else None
    living = pods.owners()

    def traces() -> list[str]:
        return [*pods.names(), *(pods.owners() - living), *(node.traces() if node else ())]

    removed = 0
    for first in range(0, KILLS, A_ROUND):
        kill_many("kubernetes", place, first, min(first + A_ROUND, KILLS))
        removed += reap_until_clean("kubernetes", place, traces)
    assert removed > 0
    where = "pods, or on their node" if node else "pods"
    print(f"kubernetes: {KILLS} workers killed, {removed} pods reaped, nothing left of {where}")
