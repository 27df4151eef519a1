"""Tasksets from outside for the tests: unpacked images of three repositories, made once a session."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.base import Backend
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.load import main
from sandbox.task import Taskset, load_taskset
from tests.images.fixtures import built, engine, nodes
from tests.images.rows import PUBLISHED
from tests.sandbox.conftest import EVERY_BACKEND

__all__ = ["built", "engine", "nodes"]

LoadTaskset = Callable[[str], Taskset]


@pytest.fixture(scope="session")
def taskset(built: Path) -> LoadTaskset:
    """The tasks of one schema, by its name, loaded as a user would."""

    def load(schema: str) -> Taskset:
        folder = built / "tasksets" / schema
        if not folder.is_dir():
            source = PUBLISHED / f"{schema}.jsonl"
            assert main([str(source), "--name", schema, str(folder)]) == 0
        return load_taskset(str(folder))

    return load


@pytest.fixture(scope="session")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BubblewrapBackend]:
    """A bubblewrap backend that finds the images unpacked."""
    state = tmp_path_factory.mktemp("sandboxes")
    backend = BubblewrapBackend(state=state, unpacked=built / "images")
    yield backend
    backend.close()


@pytest.fixture(params=EVERY_BACKEND)
def published(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn, with the images within its reach."""
    wanted = {
        "bubblewrap": ("unpacked",),
        "docker": ("engine", "docker_backend"),
        "kubernetes": ("nodes", "kubernetes_backend"),
    }
    *_, backend = (request.getfixturevalue(name) for name in wanted[request.param])
    found: Backend = backend
    return found
