"""Real faults of a Docker engine and of what runs on it: each gives the end and the outcome of the
table in sandbox/errors.py, in time, and leaves nothing.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import docker
import pytest

from sandbox import snapshot
from sandbox.available import docker_address
from sandbox.base import ExecResult, SandboxLabels, SandboxSpec
from sandbox.docker.api import Engine
from sandbox.docker.backend import DockerBackend
from sandbox.docker.options import KEEPER, container_options
from sandbox.docker.sandbox import DockerSandbox
from sandbox.environment import Environment, Limits, grade
from sandbox.errors import (
    OUTCOME_OF_END,
    End,
    Outcome,
    SandboxDestroyed,
    SandboxError,
    SandboxGone,
    SandboxUnavailable,
    outcome_of,
)
from sandbox.labels import LABEL
from sandbox.task import Task
from tests.docker_engine import DockerEngine, lacks_engine, running_engine

pytestmark = pytest.mark.docker
AFTER_S = 1.0
"""When a fault strikes, after the command was sent."""
SLACK_S = 2.0
"""How long after its deadline a command may return at the latest."""
FIXED = b"""--- a/calc.py
+++ b/calc.py
@@ -1,2 +1,2 @@
 def add(a, b):
-    return a - b
+    return a + b
"""


@pytest.fixture
def labels() -> SandboxLabels:
    return SandboxLabels(
        run=f"faults-{uuid4()}", rollout="r", owner="test:1", expires=time.time() + 600
    )


@pytest.fixture(scope="module")
def url() -> str:
    return docker_address(os.environ)


@pytest.fixture(scope="module")
def backend(url: str) -> Iterator[DockerBackend]:
    made = DockerBackend(base_url=url)
    yield made
    made.close()


@pytest.fixture
def api(url: str, labels: SandboxLabels) -> Iterator[Any]:
    """The engine's own interface, by which a test causes a fault; afterwards nothing of the test's
    run may be left.
    """
    client = docker.APIClient(base_url=url, version="auto")
    yield client
    assert ours(client, labels) == []
    client.close()


@pytest.fixture
def sandbox(backend: DockerBackend, spec: SandboxSpec, api: Any) -> Iterator[DockerSandbox]:
    made = backend.create(spec)
    yield made
    made.close()


@pytest.fixture(scope="module")
def engine(url: str) -> Iterator[DockerEngine]:
    """An engine that these tests may kill: the one in use if it is the tests' own."""
    if used := DockerEngine.at(url):
        yield used
        return
    if reason := lacks_engine():
        pytest.skip(reason)
    with running_engine() as made:
        yield made


def ours(api: Any, labels: SandboxLabels) -> list[str]:
    rows = api.containers(all=True, filters={"label": f"{LABEL}.run={labels.run}"})
    return [row["Id"] for row in rows]


@contextmanager
def shortly(strike: Callable[[], None]) -> Iterator[None]:
    timer = threading.Timer(AFTER_S, strike)
    timer.start()
    yield
    timer.join()


def run(sandbox: DockerSandbox, script: str, timeout_s: float = 20) -> ExecResult:
    began = time.monotonic()
    try:
        return sandbox.exec(["bash", "-c", script], timeout_s=timeout_s)
    finally:
        assert time.monotonic() - began < timeout_s + SLACK_S


def processes(api: Any, container: str) -> list[str]:
    return [row[-1] for row in api.top(container)["Processes"]]


def test_a_container_killed_under_a_command_is_gone_by_no_fault_of_the_agents(
    sandbox: DockerSandbox, api: Any, labels: SandboxLabels
) -> None:
    (container,) = ours(api, labels)
    with shortly(lambda: api.kill(container)):
        result = run(sandbox, "echo early; sleep 60", timeout_s=30)
    assert (result.end, result.exit_code, result.stdout) == (End.SANDBOX_GONE, None, b"early\n")
    assert OUTCOME_OF_END[result.end] is Outcome.INFRA
    assert result.duration_s < AFTER_S + SLACK_S
    with pytest.raises(SandboxGone):
        run(sandbox, "true")
    with pytest.raises(SandboxGone):
        sandbox.diff()
    with pytest.raises(SandboxGone):
        sandbox.read("/testbed/calc.py", 100)


def test_a_container_removed_under_a_command_is_gone_by_no_fault_of_the_agents(
    sandbox: DockerSandbox, api: Any, labels: SandboxLabels
) -> None:
    (container,) = ours(api, labels)
    began = time.monotonic()
    with shortly(lambda: api.remove_container(container, force=True)):
        # by the moment at which the removal is noticed
        with suppress(SandboxGone):
            result = run(sandbox, "sleep 60", timeout_s=30)
            assert OUTCOME_OF_END[result.end] is Outcome.INFRA
        assert time.monotonic() - began < AFTER_S + SLACK_S
    with pytest.raises(SandboxGone):
        run(sandbox, "true")


def test_grading_goes_on_in_another_container_when_its_own_is_killed(
    backend: DockerBackend, api: Any, task: Task, labels: SandboxLabels, limits: Limits
) -> None:
    slow = {"test_1.py": "import time\ntime.sleep(4)\n" + task.tests["test_1.py"]}
    task = task.model_copy(update={"tests": slow})
    grade(task, FIXED, backend, labels=labels, limits=limits)
    with shortly(lambda: [api.kill(c) for c in ours(api, labels)] and None):
        graded = grade(task, FIXED, backend, labels=labels, limits=limits)
    assert (graded.outcome, graded.reward) == (Outcome.TASK, 1.0), graded


def test_grading_that_loses_every_container_gives_no_reward(
    backend: DockerBackend, api: Any, task: Task, labels: SandboxLabels, limits: Limits
) -> None:
    done = threading.Event()

    def kill_all() -> None:
        while not done.wait(0.3):
            for container in ours(api, labels):
                api.remove_container(container, force=True)

    killer = threading.Thread(target=kill_all)
    slow = {"test_1.py": "import time\ntime.sleep(30)\n" + task.tests["test_1.py"]}
    killer.start()
    try:
        slowed = task.model_copy(update={"tests": slow})
        graded = grade(slowed, FIXED, backend, labels=labels, limits=limits)
    finally:
        done.set()
        killer.join()
    assert (graded.outcome, graded.reward) == (Outcome.INFRA, None)


def test_an_engine_killed_under_a_command_leaves_its_end_unknown(
    engine: DockerEngine, spec: SandboxSpec
) -> None:
    backend = DockerBackend(base_url=engine.url)
    sandbox = backend.create(spec)
    with shortly(engine.kill):
        result = run(sandbox, "echo early; sleep 60; echo late", timeout_s=30)
    assert (result.end, result.exit_code, result.stdout) == (End.UNKNOWN, None, b"early\n")
    assert OUTCOME_OF_END[result.end] is Outcome.INFRA
    assert result.duration_s < AFTER_S + SLACK_S
    with pytest.raises(SandboxGone):
        run(sandbox, "true")
    with pytest.raises(SandboxUnavailable):
        backend.create(spec)
    engine.start()
    with pytest.raises(SandboxGone):
        run(sandbox, "true")
    sandbox.close()
    again = backend.create(spec)
    assert run(again, "python3 -c 'x = bytearray(3 << 30)'").end in (End.OOM, End.EXITED)
    assert run(again, "echo here").stdout == b"here\n"
    again.close()
    backend.close()
    assert engine.leftovers() == []


def test_an_engine_killed_while_a_patch_is_made_is_not_the_agents_fault(
    engine: DockerEngine, spec: SandboxSpec
) -> None:
    backend = DockerBackend(base_url=engine.url)
    sandbox = backend.create(spec)
    run(sandbox, "for n in $(seq 3000); do echo $n > file$n; done")
    timer = threading.Timer(0.1, engine.kill)
    timer.start()
    with pytest.raises(SandboxGone):
        sandbox.diff()
    timer.join()
    engine.start()
    sandbox.close()
    backend.close()
    assert engine.leftovers() == []


def test_an_engine_lost_under_a_rollout_is_told_to_the_rollout_as_such(
    engine: DockerEngine, task: Task, labels: SandboxLabels, limits: Limits
) -> None:
    backend = DockerBackend(base_url=engine.url)
    environment = Environment(task, backend, labels=labels, limits=limits)
    environment.reset()
    call = "<function=execute_bash><parameter=cmd>sleep 15</parameter></function>"
    with shortly(engine.kill), pytest.raises(SandboxGone) as lost:
        environment.step(call)
    assert outcome_of(lost.value) is Outcome.INFRA
    engine.start()
    environment.close()
    backend.reap(run=labels.run)
    backend.close()
    assert engine.leftovers() == []


@pytest.fixture
def freezable(engine: DockerEngine) -> Iterator[DockerEngine]:
    yield engine
    engine.thaw()


@pytest.mark.parametrize("script", ["sleep 60", "while echo x; do sleep 0.1; done"])
def test_an_engine_that_stops_under_a_command_leaves_its_end_unknown(
    freezable: DockerEngine, spec: SandboxSpec, script: str
) -> None:
    backend = DockerBackend(base_url=freezable.url)
    sandbox = backend.create(spec)
    with shortly(freezable.freeze):
        result = run(sandbox, script, timeout_s=3)
    assert (result.end, result.exit_code) == (End.UNKNOWN, None)
    assert OUTCOME_OF_END[result.end] is Outcome.INFRA
    freezable.thaw()
    with pytest.raises(SandboxGone, match="unknown"):
        run(sandbox, "true")
    sandbox.close()
    backend.close()
    assert freezable.leftovers() == []


def test_a_command_for_an_engine_that_is_stopped_is_given_up_in_time(
    freezable: DockerEngine, spec: SandboxSpec
) -> None:
    backend = DockerBackend(base_url=freezable.url)
    sandbox = backend.create(spec)
    freezable.freeze()
    for _ in range(2):
        with pytest.raises(SandboxGone) as gone:
            run(sandbox, "echo never", timeout_s=1)
        assert outcome_of(gone.value) is Outcome.INFRA
    freezable.thaw()
    sandbox.close()
    backend.close()
    assert freezable.leftovers() == []


@pytest.mark.parametrize("after_s", [0.0, 0.05])
def test_an_engine_that_stops_while_a_timed_out_command_is_ended_holds_nobody_up(
    freezable: DockerEngine, spec: SandboxSpec, after_s: float
) -> None:
    backend = DockerBackend(base_url=freezable.url)
    sandbox = backend.create(spec)
    timer = threading.Timer(2 + after_s, freezable.freeze)
    timer.start()
    result = run(sandbox, "sleep 60", timeout_s=2)
    timer.join()
    assert result.end in (End.TIMEOUT, End.SANDBOX_GONE, End.UNKNOWN)
    freezable.thaw()
    sandbox.close()
    backend.close()
    assert freezable.leftovers() == []


def test_an_engine_that_stops_and_goes_on_before_the_deadline_costs_nothing(
    freezable: DockerEngine, spec: SandboxSpec
) -> None:
    backend = DockerBackend(base_url=freezable.url)
    sandbox = backend.create(spec)
    thaw = threading.Timer(2 * AFTER_S, freezable.thaw)
    thaw.start()
    with shortly(freezable.freeze):
        result = run(sandbox, "for n in 1 2 3; do sleep 0.5; echo $n; done")
    thaw.join()
    assert (result.end, result.exit_code, result.stdout) == (End.EXITED, 0, b"1\n2\n3\n")
    assert run(sandbox, "echo here").stdout == b"here\n"
    sandbox.close()
    backend.close()
    assert freezable.leftovers() == []


def test_a_missing_image_is_named_and_leaves_nothing(
    backend: DockerBackend, spec: SandboxSpec, api: Any
) -> None:
    with pytest.raises(SandboxUnavailable, match="no/such-image") as missing:
        backend.create(replace(spec, docker_image="no/such-image:1"))
    assert outcome_of(missing.value) is Outcome.INFRA


def test_an_engine_that_is_not_there_is_named(spec: SandboxSpec) -> None:
    with pytest.raises(SandboxUnavailable, match="/no/such.sock"):
        DockerBackend(base_url="unix:///no/such.sock").create(spec)


HOG = "python3 -c 'l = []\nwhile True: l.append(bytearray(1 << 20))'"


def test_memory_that_runs_out_in_a_child_ends_the_command_alone(sandbox: DockerSandbox) -> None:
    result = run(sandbox, HOG, timeout_s=30)
    assert (result.end, result.exit_code) == (End.OOM, None)
    assert OUTCOME_OF_END[result.end] is Outcome.TASK
    assert run(sandbox, "exit 3").exit_code == 3
    assert sandbox.diff() == b""


def test_memory_that_runs_out_and_takes_pid_1_along_is_the_agents_fault(
    sandbox: DockerSandbox, api: Any, labels: SandboxLabels
) -> None:
    """The kernel kills the largest process; here PID 1 counts as the largest."""
    (container,) = ours(api, labels)
    first_to_die = ["sh", "-c", "echo 1000 > /proc/1/oom_score_adj"]
    created = api.exec_create(container, first_to_die, user=KEEPER)
    api.exec_start(created["Id"])
    with pytest.raises(SandboxError) as destroyed:
        run(sandbox, f"for n in 1 2 3 4; do {HOG} & done; wait", timeout_s=30)
    assert isinstance(destroyed.value, SandboxDestroyed)
    assert outcome_of(destroyed.value) is Outcome.AGENT_FAULT


def test_a_flood_is_cut_off_and_its_writer_killed(
    sandbox: DockerSandbox, api: Any, labels: SandboxLabels
) -> None:
    result = run(sandbox, "setsid yes & yes", timeout_s=30)
    assert (result.end, result.stdout_truncated) == (End.OUTPUT_LIMIT, True)
    assert OUTCOME_OF_END[result.end] is Outcome.TASK
    assert result.duration_s < 10
    assert not any("yes" in line for line in processes(api, ours(api, labels)[0]))


def test_a_detached_child_does_not_outlive_its_command(
    sandbox: DockerSandbox, api: Any, labels: SandboxLabels
) -> None:
    before = processes(api, ours(api, labels)[0])
    daemon = "(setsid sh -c 'trap \"\" TERM HUP; while true; do sleep 0.01; done' &)"
    assert run(sandbox, f"{daemon}; echo ok").stdout == b"ok\n"
    assert processes(api, ours(api, labels)[0]) == before
    assert run(sandbox, f"{daemon}; sleep 60", timeout_s=1).end is End.TIMEOUT
    assert processes(api, ours(api, labels)[0]) == before


def test_full_disks_are_the_commands_failure_and_the_patch_is_still_made(
    sandbox: DockerSandbox,
) -> None:
    fill = "for d in /testbed /tmp /home/agent /dev/shm; do cat /dev/zero > $d/fill; done; "
    result = run(sandbox, f"echo x = 1 > new.py; {fill} df -m | grep tmpfs")
    assert result.end is End.EXITED
    assert b"No space left on device" in result.stderr
    assert run(sandbox, "echo more > more").exit_code == 1
    assert b"+x = 1" in sandbox.diff()
    assert run(sandbox, "rm fill; echo room > file && cat file").stdout == b"room\n"


def test_an_agent_that_removes_everything_has_destroyed_its_own_box(
    backend: DockerBackend, spec: SandboxSpec, api: Any, url: str
) -> None:
    """The backend's root cannot be written to; this container is made with one that can."""
    client = Engine(base_url=url)
    base = snapshot.Base(snapshot.pack({}), b"")
    options = container_options(spec, "writable", base)
    container = client.containers.create(spec.docker_image, **{**options, "read_only": False})
    container.start()
    sandbox = DockerSandbox("writable", container, spec, base, backend._events)
    script = "rm -rf --no-preserve-root /bin /usr /lib /lib64"
    with pytest.raises(SandboxDestroyed) as destroyed:
        sandbox.exec(["bash", "-c", script], user="root", timeout_s=20)
    assert outcome_of(destroyed.value) is Outcome.AGENT_FAULT
    sandbox.close()
    client.close()


def test_an_agent_that_kills_whatever_comes_after_it_loses_that_process_or_its_box(
    sandbox: DockerSandbox, api: Any, labels: SandboxLabels
) -> None:
    guard = "(setsid python3 -c '\nimport os, signal\nwhile True:\n"
    guard += "  try: os.kill(-1, 9)\n  except OSError: pass' &); sleep 0.3"
    for _ in range(3):
        try:
            run(sandbox, guard)
        except SandboxDestroyed:
            return
        assert not any("os.kill" in line for line in processes(api, ours(api, labels)[0]))


def test_an_agent_cannot_stop_what_comes_after_it(sandbox: DockerSandbox) -> None:
    """A stopped process of the engine's own would hold up the engine."""
    guard = "(setsid python3 -c '\nimport os, signal\nwhile True:\n"
    guard += "  try: os.kill(-1, signal.SIGSTOP)\n  except OSError: pass' &); sleep 0.3"
    assert run(sandbox, guard).ok
    assert run(sandbox, "echo here").stdout == b"here\n"


def test_a_command_that_closes_its_streams_is_still_awaited(sandbox: DockerSandbox) -> None:
    result = run(sandbox, "echo out; exec >&- 2>&-; sleep 1.5; exit 5")
    assert (result.end, result.exit_code, result.stdout) == (End.EXITED, 5, b"out\n")
    result = run(sandbox, "exec >&- 2>&-; sleep 60", timeout_s=2)
    assert (result.end, result.exit_code) == (End.TIMEOUT, None)
