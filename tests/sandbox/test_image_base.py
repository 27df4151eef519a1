"""The base commit of an image's repository: what its own git tracked, and nothing that it ignored."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.base import Sandbox, SandboxLabels, SandboxSpec
from sandbox.bubblewrap.backend import BubblewrapBackend
from tests.images.history import git
from tests.sandbox.contract import opened, sh

TRACKED = (
    ".gitignore",
    "code.py",
    "data/a b.csv",
    "data/*.csv",
    "data/line\nbreak.csv",
    "gone.csv",
)
"""In the image's git, all but the first two although the ignore file names them."""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    testbed = tmp_path / "image" / "testbed"
    (testbed / "data").mkdir(parents=True)
    for name in (*TRACKED, "data/made.csv"):
        (testbed / name).write_text("*.csv\nbuild/\n")
    git(testbed, "init", "-q")
    git(testbed, "add", "-f", "--", *TRACKED[:3], ":(literal)data/*.csv", *TRACKED[4:])
    git(testbed, "-c", "user.name=They", "-c", "user.email=they@host", "commit", "-qm", "theirs")
    (testbed / "gone.csv").unlink()
    (testbed / "build").mkdir()
    (testbed / "build" / "out.py").write_text("")
    return testbed.parent


@pytest.fixture
def backend(tmp_path: Path, image: Path) -> Iterator[BubblewrapBackend]:
    made = BubblewrapBackend(state=tmp_path / "state", images={"theirs:1": image})
    yield made
    made.close()


def tracked(sandbox: Sandbox) -> set[str]:
    return set(sh(sandbox, "git ls-files -z").stdout.decode().split("\0")[:-1])


def test_a_file_that_is_tracked_and_ignored_is_in_the_base_and_in_patches(
    backend: BubblewrapBackend, labels: SandboxLabels
) -> None:
    spec = SandboxSpec(docker_image="theirs:1", labels=labels, disk_mib=32)
    with opened(backend, spec) as sandbox:
        assert tracked(sandbox) == set(TRACKED[:-1])
        assert sh(sandbox, "git status --porcelain; git rev-list --all | wc -l").stdout == b"1\n"
        sh(sandbox, "echo more >> 'data/a b.csv'; echo more >> data/made.csv")
        patch = sandbox.diff()
    assert b"+++ b/data/a b.csv" in patch
    assert b"made.csv" not in patch


@pytest.mark.parametrize("index", [None, b"no index"])
def test_an_image_without_a_git_that_can_be_read_is_taken_as_it_lies(
    index: bytes | None, backend: BubblewrapBackend, image: Path, labels: SandboxLabels
) -> None:
    folder = image / "testbed" / ".git"
    (folder / "index").write_bytes(index) if index else folder.rename(image / "moved")
    spec = SandboxSpec(docker_image="theirs:1", labels=labels, disk_mib=32)
    with opened(backend, spec) as sandbox:
        assert tracked(sandbox) == {".gitignore", "code.py"}
