"""The images of `tests.images.build` as fixtures: unpacked, on a Docker engine, on the nodes of a cluster."""

import os
from pathlib import Path

import pytest

from sandbox.available import docker_address
from tests.cluster.containerd import Containerd
from tests.images.build import build, load_into
from tests.images.layers import DockerImages


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repositories and unpacked images."""
    folder: Path = tmp_path_factory.mktemp("outside")
    build(folder)
    return folder


@pytest.fixture(scope="session")
def engine(built: Path) -> str:
    """The address of a Docker engine that has the images."""
    address = docker_address(os.environ)
    load_into(DockerImages(address), built)
    return address


@pytest.fixture(scope="session")
def r2e_engine(built: Path) -> str:
    """The address of a Docker engine that has those of R2E-Gym rows."""
    address = docker_address(os.environ)
    load_into(DockerImages(address), built, kind="r2e")
    return address


@pytest.fixture(scope="session")
def nodes(built: Path) -> None:
    """The nodes of the cluster have the images of R2E-Gym rows: those of the tests' own get them here."""
    if folder := os.environ.get("STUDIO_TEST_NODE"):
        load_into(Containerd(Path(folder)), built, kind="r2e")
