"""Images for tests: `python -m tests.images.build DIR [--engine URL]`, laid out as the published ones are.

Of every bug fix in `histories/` (tests.images.history) it makes three tasks. In an R2E-Gym image the
repository is at /testbed, at the commit before the fix, with all its history and a `.venv`; the hidden
tests are at /r2e_tests, or in the repository for one of them; run_tests.sh is in the repository. A
SWE-bench image holds that repository without hidden tests, a SWE-smith image the fixed one.

    DIR/repositories/REPO/    with their whole history
    DIR/images/NAME/          unpacked for bubblewrap, on the composed root

The rows that name these images are in `published/` (tests.images.rows).
With --engine, every image is made there too, on the image that `python -m sandbox.images` makes.
"""

import argparse
import io
import shutil
import tarfile
from pathlib import Path
from urllib.parse import unquote

from sandbox.rootfs import COMPOSED_IMAGE
from sandbox.unpack import folder_of
from tests.images import rows
from tests.images.history import Fix, git, names, play

TESTS_INSIDE = "typeset"
"""The repository whose R2E-Gym images hold the hidden tests below /testbed."""


def build(folder: Path) -> list[Fix]:
    """Repositories and unpacked images below `folder`; what fixes they are of."""
    fixes = [fix for name in names() for fix in play(name, folder / "repositories" / name)]
    for fix in fixes:
        for kind in rows.SCHEMAS:
            lay(fix, kind, folder_of(rows.image_name(fix, kind), folder / "images"))
    return fixes


def lay(fix: Fix, kind: str, image: Path) -> None:
    """One image as a folder: its repository, and what else the published ones hold."""
    testbed = image / "testbed"
    git(fix.repository, "clone", "-q", str(fix.repository), str(testbed))
    git(testbed, "tag", "released", fix.commit)
    git(testbed, "reset", "-q", "--hard", fix.commit if kind == "swesmith" else fix.parent)
    if kind == "r2e":
        _venv(testbed)
        (testbed / "run_tests.sh").write_text(rows.RUN_TESTS)
        tests = (testbed if fix.repo == TESTS_INSIDE else image) / "r2e_tests"
        tests.mkdir()
        for number, path in enumerate(fix.test_files, start=1):
            (tests / f"test_{number}.py").write_text(fix.file(path, fixed=True))


def _venv(testbed: Path) -> None:
    """An environment that has what the image's own Python has."""
    home = "/opt/python/bin"
    (testbed / ".venv" / "bin").mkdir(parents=True)
    (testbed / ".venv" / "bin" / "python").symlink_to(f"{home}/python3")
    settings = f"home = {home}\ninclude-system-site-packages = true\n"
    (testbed / ".venv" / "pyvenv.cfg").write_text(settings)


def load_into(engine: str, folder: Path) -> None:
    """Make every unpacked image of `folder` an image of a Docker engine."""
    import docker

    from tests.images.layers import load_on

    client = docker.DockerClient(base_url=engine, timeout=600)
    images = sorted((folder / "images").iterdir())
    load_on(client, COMPOSED_IMAGE, {unquote(image.name): _archive(image) for image in images})
    client.close()


def _archive(image: Path) -> bytes:
    """The image's files, root's."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(image, ".", filter=lambda member: member.replace(uid=0, gid=0, deep=False))
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, metavar="DIR", help="made anew")
    parser.add_argument("--engine", help="address of a Docker engine to make the images in too")
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    fixes = build(options.folder)
    if options.engine:
        load_into(options.engine, options.folder)
    print(f"{len(fixes)} tasks of each kind in {options.folder}")


if __name__ == "__main__":
    main()
