"""A worker that waits to be killed: it goes through a sandbox's life and says when it enters each phase.

    python -m tests.sandbox.doomed_worker BACKEND PLACE PHASE

PLACE is the folder of bubblewrap's records, the address of a Docker engine, or the options of a cluster as JSON. It works
through the phases up to PHASE, prints PHASE, and goes on for ever. Nothing here cleans up: that is what its death tests.
"""

import json
import os
import socket
import sys
import time
from pathlib import Path

from sandbox.base import Backend, SandboxLabels, load_backend
from sandbox.grading.grade import grade
from sandbox.limits import Limits, spec_of
from sandbox.rootfs import COMPOSED_IMAGE
from sandbox.task import Task

PHASES = ("create", "exec", "diff", "grade", "close")
TASK = Task(
    task_id="test/add",
    repo_name="add",
    docker_image=COMPOSED_IMAGE,
    problem_statement="add subtracts",
    expected_output_json='{"test_add": "PASSED"}',
    files={"calc.py": "def add(a, b):\n    return a - b\n"},
    tests={"test_1.py": "import calc\n\n\ndef test_add():\n    assert calc.add(1, 2) == 3\n"},
)
LIMITS = Limits(memory_mib=128, pids=48, disk_mib=32, grading_timeout_s=60)
BUSY = "(setsid sleep 600 &); echo x = 1 > new.py; head -c 1M /dev/zero > /tmp/f; sleep 0.3"


def backend_at(name: str, place: str) -> Backend:
    """The backend whose sandboxes are recorded, or run, at `place`; of a cluster, its options as JSON."""
    if name == "kubernetes":
        return load_backend(name, **json.loads(place))
    options = {"bubblewrap": {"state": Path(place)}, "docker": {"base_url": place}}
    return load_backend(name, **options[name])


def live(backend: Backend, doomed_in: str) -> None:
    """One sandbox's life after the other, `doomed_in` said aloud each time it is entered."""
    labels = SandboxLabels(
        run="doomed",
        rollout=str(os.getpid()),
        owner=f"{socket.gethostname()}:{os.getpid()}",
        expires=time.time() + 3600,
    )

    def enter(phase: str) -> None:
        if phase == doomed_in:
            print(phase, flush=True)

    while True:
        enter("create")
        sandbox = backend.create(spec_of(TASK, labels=labels, limits=LIMITS))
        enter("exec")
        sandbox.exec(["bash", "-c", BUSY], timeout_s=30)
        enter("diff")
        patch = sandbox.diff()
        enter("grade")
        grade(TASK, patch, backend, labels=labels, limits=LIMITS)
        enter("close")
        sandbox.close()


if __name__ == "__main__":
    live(backend_at(sys.argv[1], sys.argv[2]), sys.argv[3])
