"""`python -m benchmarks.our_episodes BACKEND NUM AT_ONCE OUT`: time episodes in this project's sandboxes.

An episode is whole: environment, commands, patch, and the grade in a second sandbox. One that is not graded with reward 1
fails the measurement.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

from benchmarks.episodes import COMMANDS, EXPECTED, FILES, TESTS, Measured
from sandbox.base import Backend, SandboxLabels, load_backend
from sandbox.environment import Environment, grade
from sandbox.kubernetes.backend import KubernetesBackend
from sandbox.limits import Limits
from sandbox.pool import Pool
from sandbox.rootfs import COMPOSED_IMAGE
from sandbox.task import Task
from tests.cluster.namespace import sandbox_namespace

LIFE_S = 3600.0
LIMITS = Limits(memory_mib=192, pids=64, disk_mib=48)
TASK = Task(
    task_id="bench/add",
    repo_name="add",
    docker_image=COMPOSED_IMAGE,
    problem_statement="add subtracts",
    expected_output_json=json.dumps(EXPECTED),
    files=FILES,
    tests=TESTS,
)


def main() -> int:
    name, num, at_once, out = sys.argv[1:]
    with ready(name) as backend, closing(Pool(backend)) as pool:
        run_episode(pool, "warm-up")  # builds the base commit, which all later ones share
        measure(pool, int(num), int(at_once)).save(Path(out))
    return 0


@contextmanager
def ready(name: str) -> Iterator[Backend]:
    """The backend called `name`; on Kubernetes, in a namespace of its own on the cluster of KUBECONFIG."""
    if name != "kubernetes":
        yield load_backend(name)
        return
    with sandbox_namespace() as options, closing(KubernetesBackend(**options)) as backend:
        yield backend


def measure(pool: Pool, num: int, at_once: int) -> Measured:
    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as threads:
        timed = list(threads.map(lambda _: run_episode(pool, str(uuid4())), range(num)))
    return Measured(
        at_once=at_once,
        whole_s=time.perf_counter() - began,
        start_s=tuple(start for start, _ in timed),
        exec_s=tuple(seconds for _, execs in timed for seconds in execs),
        grades=True,
    )


def run_episode(pool: Pool, rollout: str) -> tuple[float, list[float]]:
    """Seconds of its start and of each command. Raises RuntimeError when its reward is not 1."""
    labels = SandboxLabels(
        run="benchmark",
        rollout=rollout,
        owner=f"{socket.gethostname()}:{os.getpid()}",
        expires=time.time() + LIFE_S,
    )
    environment = Environment(TASK, pool, labels=labels, limits=LIMITS)
    began = time.perf_counter()
    environment.reset()
    try:
        started = time.perf_counter()
        execs = []
        for command in COMMANDS:
            sent = time.perf_counter()
            call = f"<function=execute_bash><parameter=cmd>{command}</parameter></function>"
            environment.step(call)
            execs.append(time.perf_counter() - sent)
        patch = environment.patch()
    finally:
        environment.close()
    graded = grade(TASK, patch, pool, labels=labels, limits=LIMITS)
    if graded.reward != 1:
        raise RuntimeError(
            f"rollout {rollout}: {graded.outcome}, reward {graded.reward}: {graded.reason}"
        )
    return started - began, execs


if __name__ == "__main__":
    sys.exit(main())
