"""Real faults on a real cluster: each gives the end and outcome of sandbox/errors.py's table, in time, and leaks nothing."""

import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.base import ExecResult, Sandbox, SandboxSpec
from sandbox.errors import (
    OUTCOME_OF_END,
    End,
    Outcome,
    SandboxDestroyed,
    SandboxGone,
    SandboxUnavailable,
    outcome_of,
)
from sandbox.kubernetes.backend import KubernetesBackend
from tests.cluster.containerd import Container
from tests.cluster.cutting_proxy import CuttingProxy
from tests.cluster.live import Node, Pods

pytestmark = pytest.mark.k8s

HOG = "l = []\nwhile True: l.append(bytearray(1 << 20))"
LATE_S = 2.0
"""No fault may hold a caller for longer than this beyond the command's deadline."""


def sh(sandbox: Sandbox, script: str, timeout_s: float = 20) -> ExecResult:
    return sandbox.exec(["bash", "-c", script], timeout_s=timeout_s)


def during(sandbox: Sandbox, fault: Callable[[], None], timeout_s: float = 30) -> ExecResult:
    """Run a command of a minute, cause `fault` once it runs, and return what came of it, in time."""
    timer = threading.Timer(2.0, fault)
    timer.start()
    began = time.monotonic()
    try:
        result = sh(sandbox, "echo early; sleep 60; echo late", timeout_s)
    finally:
        timer.join()
    assert time.monotonic() - began < timeout_s + LATE_S
    assert b"late" not in result.stdout
    return result


def test_a_pod_deleted_under_a_command_is_gone_by_no_fault_of_the_agent(
    sandbox: Sandbox, pods: Pods
) -> None:
    result = during(sandbox, lambda: pods.delete(sandbox.id))
    assert (result.end, result.exit_code) == (End.SANDBOX_GONE, None)
    assert OUTCOME_OF_END[result.end] is Outcome.INFRA
    with pytest.raises(SandboxGone, match="deleted|not found"):
        sh(sandbox, "true")


def test_a_container_killed_under_a_command_is_gone_by_no_fault_of_the_agent(
    sandbox: Sandbox, node: Node
) -> None:
    result = during(sandbox, node.container(sandbox.id).kill)
    assert result.end is End.SANDBOX_GONE
    with pytest.raises(SandboxGone, match="first process ended"):
        sh(sandbox, "true")


@contextmanager
def behind_proxy(
    options: dict[str, Any], pods: Pods, tmp_path: Path
) -> Iterator[tuple[KubernetesBackend, CuttingProxy]]:
    config = json.loads(Path(options["kubeconfig"]).read_text())
    cluster = config["clusters"][0]["cluster"]
    proxy = CuttingProxy(cluster["server"])
    # The server's certificate names its own address.
    cluster["tls-server-name"] = cluster["server"].rpartition(":")[0].rpartition("/")[2]
    cluster["server"] = f"https://127.0.0.1:{proxy.port}"
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    backend = KubernetesBackend(**{**options, "kubeconfig": str(path)})
    yield backend, proxy
    backend.close()
    proxy.close()


def test_a_connection_cut_without_a_status_has_an_unknown_end_and_nothing_is_run_again(
    kubernetes_options: dict[str, Any], spec: SandboxSpec, pods: Pods, tmp_path: Path
) -> None:
    with behind_proxy(kubernetes_options, pods, tmp_path) as (backend, proxy):
        sandbox = backend.create(spec)
        result = during(sandbox, proxy.cut_newest)
        assert (result.end, result.exit_code, result.stdout) == (End.UNKNOWN, None, b"early\n")
        assert OUTCOME_OF_END[result.end] is Outcome.INFRA
        with pytest.raises(SandboxGone, match="unknown"):
            sh(sandbox, "true")
        sandbox.close()
        pods.wait_until_gone()


def test_an_image_that_no_node_has_is_named(
    backend: KubernetesBackend, spec: SandboxSpec, pods: Pods
) -> None:
    with pytest.raises(SandboxUnavailable, match=r"no/such-image:1.*not on this cluster") as caught:
        backend.create(replace(spec, docker_image="no/such-image:1"))
    assert outcome_of(caught.value) is Outcome.INFRA
    pods.wait_until_gone()


def test_a_pod_that_no_node_can_take_is_given_up_and_removed(
    kubernetes_options: dict[str, Any], spec: SandboxSpec, pods: Pods
) -> None:
    backend = KubernetesBackend(**kubernetes_options, start_timeout_s=30)
    backend.create(spec).close()
    backend.options = replace(backend.options, start_timeout_s=3)
    began = time.monotonic()
    with pytest.raises(SandboxUnavailable, match=r"start_timeout_s=3: .*Insufficient memory"):
        backend.create(replace(spec, memory_mib=300_000))
    assert time.monotonic() - began < 3 + LATE_S + 3
    backend.close()
    pods.wait_until_gone()


def test_an_api_server_that_restarts_costs_one_command_and_no_more(
    backend: KubernetesBackend, spec: SandboxSpec, node: Node, pods: Pods
) -> None:
    sandbox = backend.create(spec)
    result = during(sandbox, node.kill_apiserver)
    assert result.end is End.UNKNOWN
    sandbox.close()
    other = backend.create(spec)
    assert sh(other, "echo back").stdout == b"back\n"
    other.close()
    pods.wait_until_gone()


@pytest.fixture
def freezable(node: Node) -> Iterator[Node]:
    yield node
    node.thaw_apiserver()


def test_an_api_server_that_stops_leaves_the_end_of_a_command_unknown_in_time(
    backend: KubernetesBackend, spec: SandboxSpec, freezable: Node, pods: Pods
) -> None:
    sandbox, other = backend.create(spec), backend.create(spec)
    result = during(sandbox, freezable.freeze_apiserver, timeout_s=4)
    assert (result.end, result.exit_code, result.stdout) == (End.UNKNOWN, None, b"early\n")
    assert OUTCOME_OF_END[result.end] is Outcome.INFRA
    began = time.monotonic()
    assert sh(other, "echo never", timeout_s=1).end is End.UNKNOWN
    assert time.monotonic() - began < 1 + LATE_S
    freezable.thaw_apiserver()
    for one in (sandbox, other):
        with pytest.raises(SandboxGone, match="unknown"):
            sh(one, "true")
        one.close()
    pods.wait_until_gone()


def test_an_api_server_that_stops_and_goes_on_before_the_deadline_costs_nothing(
    sandbox: Sandbox, freezable: Node
) -> None:
    thaw = threading.Timer(2.0, freezable.thaw_apiserver)
    freezable.freeze_apiserver()
    thaw.start()
    assert sh(sandbox, "echo back", timeout_s=30).stdout == b"back\n"
    thaw.join()


def test_memory_used_up_by_a_child_ends_the_command_and_not_the_sandbox(sandbox: Sandbox) -> None:
    result = sandbox.exec(["python3", "-c", HOG], timeout_s=60)
    assert (result.end, result.exit_code) == (End.OOM, None)
    assert OUTCOME_OF_END[result.end] is Outcome.TASK
    assert sh(sandbox, "kill -9 $$").exit_code == 137
    assert sh(sandbox, "cat calc.py").ok


def prefer_first_process(container: Container) -> None:
    """Have the kernel take the container's first process when memory runs out, unless another holds nearly all of it."""
    for pid in container.pids():
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000" if pid == container.pid else "0")


def test_memory_used_up_so_that_the_first_process_dies_is_the_agents_fault(
    sandbox: Sandbox, node: Node
) -> None:
    preferred = threading.Timer(1.5, prefer_first_process, [node.container(sandbox.id)])
    preferred.start()
    began = time.monotonic()
    script = f"import os, time\ntime.sleep(3)\nos.fork()\n{HOG}"
    result = sandbox.exec(["python3", "-c", script], timeout_s=30)
    assert time.monotonic() - began < 30 + LATE_S
    assert result.end is End.OOM
    with pytest.raises(SandboxDestroyed) as caught:
        sh(sandbox, "true")
    assert outcome_of(caught.value) is Outcome.AGENT_FAULT


def test_a_flood_of_output_is_cut_at_the_cap_in_flat_memory(sandbox: Sandbox) -> None:
    tracemalloc.start()
    result = sandbox.exec(["yes"], timeout_s=30, max_output_bytes=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (result.end, len(result.stdout), result.stdout_truncated) == (
        End.OUTPUT_LIMIT,
        1 << 20,
        True,
    )
    assert peak < 16 << 20
    assert b"yes" not in sh(sandbox, "cat /proc/[0-9]*/comm").stdout


@pytest.mark.parametrize("timeout_s", [20, 2])
def test_a_child_in_a_session_of_its_own_does_not_outlive_its_command(
    sandbox: Sandbox, timeout_s: float
) -> None:
    script = "setsid sh -c 'trap \"\" TERM HUP; sleep 301; echo x > /testbed/x' & sleep 0.3; "
    result = sh(sandbox, script + ("sleep 60" if timeout_s < 10 else "true"), timeout_s)
    assert result.end is (End.TIMEOUT if timeout_s < 10 else End.EXITED)
    assert result.duration_s < timeout_s + LATE_S
    assert b"sleep" not in sh(sandbox, "cat /proc/[0-9]*/comm").stdout


def test_a_full_process_table_does_not_outlive_its_command(sandbox: Sandbox) -> None:
    result = sh(sandbox, "f() { f | f & }; f; sleep 60", timeout_s=4)
    assert result.end in (End.TIMEOUT, End.EXITED, End.OUTPUT_LIMIT)
    assert sh(sandbox, "echo alive").stdout == b"alive\n"


def test_a_full_disk_is_an_observation_and_hinders_no_patch(sandbox: Sandbox) -> None:
    result = sh(sandbox, "head -c 64M /dev/zero > fill")
    assert (result.end, result.ok) == (End.EXITED, False)
    assert b"No space left" in result.stderr
    assert sandbox.diff() == b""
    assert sh(sandbox, "rm fill; echo 'x = 1' > calc.py").ok
    assert b"+x = 1" in sandbox.diff()


def test_nothing_can_be_written_outside_the_volume_of_fixed_size(sandbox: Sandbox) -> None:
    found = sh(
        sandbox,
        "find / -xdev \\( -path /proc -o -path /sys \\) -prune -o -writable ! -type l -print; "
        "find /dev -xdev -type f -writable; find /run /etc -writable",
    )
    assert set(found.stdout.decode().split()) == {"/testbed", "/tmp", "/home/agent"}


def test_what_a_dead_holder_left_goes_by_its_run(
    backend: KubernetesBackend, spec: SandboxSpec, pods: Pods
) -> None:
    abandoned = replace(spec.labels, run="abandoned")
    left = backend.create(replace(spec, labels=abandoned))
    kept = backend.create(spec)
    assert left.id in backend.reap(run="abandoned").removed
    pods.wait_until_gone(kept=kept.id)
    assert sh(kept, "true").ok
    kept.close()
