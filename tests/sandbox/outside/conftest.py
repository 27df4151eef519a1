"""Tasksets from outside for the tests: unpacked images of three repositories, made once a session."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.bubblewrap import BubblewrapBackend
from sandbox.load import main
from sandbox.task import Taskset, load_taskset
from tests.images.build import build
from tests.images.rows import PUBLISHED

LoadTaskset = Callable[[str], Taskset]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repositories and unpacked images."""
    folder: Path = tmp_path_factory.mktemp("outside")
    build(folder)
    return folder


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
