"""Real sandboxes for the tests: one backend a session, and a task small enough to grade in well
under a second.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.base import Backend, Sandbox, SandboxLabels, SandboxSpec, load_backend
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.errors import SandboxUnavailable
from sandbox.limits import Limits
from sandbox.rootfs import COMPOSED_IMAGE
from sandbox.task import Task
from tests.sandbox.contract import EXCEPTIONS

EVERY_BACKEND = [
    "bubblewrap",
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("kubernetes", marks=pytest.mark.k8s),
]


@pytest.fixture(scope="session")
def bubblewrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BubblewrapBackend]:
    backend = BubblewrapBackend(state=tmp_path_factory.mktemp("sandboxes"))
    yield backend
    backend.close()


@pytest.fixture(scope="session")
def docker_backend() -> Iterator[Backend]:
    made = load_backend("docker")
    try:
        made.reap()
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture(scope="session")
def kubernetes_backend(kubernetes_options: dict[str, Any]) -> Iterator[Backend]:
    made = load_backend("kubernetes", **kubernetes_options)
    yield made
    made.close()


@pytest.fixture(params=EVERY_BACKEND)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn; a promise that one is known not to keep must fail there."""
    found: Backend = request.getfixturevalue(_FIXTURES[request.param])
    name = getattr(request.function, "__name__", "")
    if why := EXCEPTIONS.get((found.name, name)):
        request.applymarker(pytest.mark.xfail(reason=why, strict=True))
    return found


_FIXTURES = {
    "bubblewrap": "bubblewrap",
    "docker": "docker_backend",
    "kubernetes": "kubernetes_backend",
}


@pytest.fixture
def sandbox(backend: Backend, spec: SandboxSpec) -> Iterator[Sandbox]:
    made = backend.create(spec)
    yield made
    made.close()


@pytest.fixture
def labels() -> SandboxLabels:
    return SandboxLabels(run="run", rollout="rollout", owner="test:1", expires=time.time() + 600)


@pytest.fixture
def limits() -> Limits:
    return Limits(
        memory_mib=192,
        pids=64,
        disk_mib=48,
        command_timeout_s=20,
        grading_timeout_s=60,
        max_observation_chars=4000,
    )


@pytest.fixture
def spec(labels: SandboxLabels) -> SandboxSpec:
    return SandboxSpec(
        docker_image=COMPOSED_IMAGE,
        labels=labels,
        files={"calc.py": CALC.encode()},
        memory_mib=128,
        pids=48,
        disk_mib=32,
    )


CALC = "def add(a, b):\n    return a - b\n"
HIDDEN = """import calc

# hidden-marker-7391


def test_small():
    assert calc.add(1, 2) == 3


def test_negative():
    assert calc.add(-1, 1) == 0
"""


@pytest.fixture
def task() -> Task:
    return Task(
        task_id="test/add",
        repo_name="add",
        docker_image=COMPOSED_IMAGE,
        problem_statement="add subtracts",
        expected_output_json='{"test_small": "PASSED", "test_negative": "PASSED"}',
        files={"calc.py": CALC},
        tests={"test_1.py": HIDDEN},
    )


@pytest.fixture
def host_file(tmp_path: Path) -> Path:
    """A file of the host that no sandbox may see."""
    path = tmp_path / "host-secret.txt"
    path.write_text("host-secret-5512")
    path.chmod(0o644)
    return path
