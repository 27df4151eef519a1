"""What a gigabyte of output costs the process that reads it, on every backend."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.available import docker_address
from tests.sandbox.conftest import EVERY_BACKEND

ROOT = Path(__file__).parents[2]
READER = """
import resource, sys
from sandbox.base import SandboxLabels
from sandbox.limits import spec_of
from tests.sandbox.doomed_worker import LIMITS, TASK, backend_at

backend = backend_at(sys.argv[1], sys.argv[2])
labels = SandboxLabels(run="flood", rollout="r", owner="o", expires=2e9)
sandbox = backend.create(spec_of(TASK, labels=labels, limits=LIMITS))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sandbox.exec(["true"], timeout_s=30)
before = peak()
flood = ["sh", "-c", "head -c 1G /dev/zero >&2 & head -c 1G /dev/zero; wait"]
result = sandbox.exec(flood, timeout_s=120)
print(result.end, len(result.stdout), peak() - before)
sandbox.close()
"""


@pytest.mark.parametrize("name", EVERY_BACKEND)
def test_a_gigabyte_of_output_costs_less_than_64_mebibytes(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if name == "kubernetes":
        place = json.dumps(request.getfixturevalue("kubernetes_options"))
    else:
        place = {"bubblewrap": str(tmp_path), "docker": docker_address(os.environ)}[name]
    argv = [sys.executable, "-c", READER, name, place]
    end, kept, grown_kib = subprocess.check_output(argv, cwd=ROOT, text=True).split()
    assert end == "output_limit"
    assert int(kept) <= 1 << 20
    assert int(grown_kib) < 64 << 10
    print(f"{name}: 1 GB of output cost {int(grown_kib) >> 10} MiB")
