"""Images for tests: `python -m tests.images.build DIR [--engine URL]`, laid out as the published ones are.

Of every bug fix in `histories/` (tests.images.history) it makes three tasks. In an R2E-Gym image the
repository is at /testbed, at the commit before the fix, with all its history and a `.venv`; the hidden
tests are at /r2e_tests, or in the repository for one of them; run_tests.sh is in the repository. A
SWE-bench image holds that repository without hidden tests, a SWE-smith image the fixed one.

    DIR/repositories/REPO/    with their whole history
    DIR/images/NAME/          unpacked for bubblewrap, on the composed root

The rows that name these images are in `published/` (tests.images.rows).
With --engine, every image is made there too. Those of SWE-bench and SWE-smith rows on the image that `python -m
sandbox.images` makes; the R2E-Gym ones hold nothing of ours, as the published ones do not: neither the tools nor a
Python but that which `.venv` leads to.
"""

import argparse
import io
import shutil
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

from sandbox.rootfs import COMPOSED_IMAGE, library_link, python_prefix
from sandbox.unpack import folder_of
from tests.images import rows
from tests.images.history import Fix, git, names, play
from tests.images.layers import Base, DockerImages, Images, load_on, saved

PYTHON = "/usr/local/share/uv/python"
"""Of an image that holds nothing of ours."""
WHITEOUT = ".wh."
"""Before the name of a file that a layer takes away (OCI image specification, layer.md)."""
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


def _venv(testbed: Path, python: str = "/opt/python") -> None:
    """An environment that has what the Python at `python` has."""
    home = f"{python}/bin"
    (testbed / ".venv" / "bin").mkdir(parents=True)
    (testbed / ".venv" / "bin" / "python").symlink_to(f"{home}/python3")
    (testbed / ".venv" / "bin" / "python3").symlink_to("python")
    settings = f"home = {home}\ninclude-system-site-packages = true\n"
    (testbed / ".venv" / "pyvenv.cfg").write_text(settings)


def load_into(images: Images, folder: Path, *, kind: str = "") -> None:
    """Make the unpacked images of `folder`, of all kinds or of one, images of an engine or a node."""
    with saved(images, COMPOSED_IMAGE) as base:
        taken = _without_ours(base)
        stacks = {}
        for image in sorted((folder / "images").glob(f"*_{kind}%3A*" if kind else "*")):
            bare = (image / "testbed" / ".venv").is_dir()
            own = _archive(image, bare)
            stacks[unquote(image.name)] = [taken, own] if bare else [own]
        load_on(images, base, stacks)


def _without_ours(base: Base) -> bytes:
    """The layer that takes what is ours from the image of the bundled tasks: its Python lies where only a `.venv` finds it."""
    found = (path.removeprefix("./") for path in base.paths())
    gone = ["opt/python", "opt/tools", *(p for p in found if p.startswith("usr/bin/python3"))]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in gone:
            folder, _, name = path.rpartition("/")
            archive.addfile(tarfile.TarInfo(f"{folder}/{WHITEOUT}{name}"))
        archive.add(python_prefix(), PYTHON.lstrip("/"), filter=_of_root)
        if link := library_link():
            member = tarfile.TarInfo(link[1].lstrip("/"))
            member.type, member.linkname = tarfile.SYMTYPE, f"{PYTHON}/lib"
            archive.addfile(member)
    return buffer.getvalue()


def _archive(image: Path, bare: bool) -> bytes:
    """The image's files, root's; with `bare`, its `.venv` leads to where the Python lies without ours."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive, TemporaryDirectory() as folder:

        def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
            elsewhere = bare and member.name.startswith("./testbed/.venv")
            return None if elsewhere else _of_root(member)

        archive.add(image, ".", filter=kept)
        if bare:
            _venv(Path(folder), PYTHON)
            archive.add(Path(folder) / ".venv", "testbed/.venv", filter=_of_root)
    return buffer.getvalue()


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    return member.replace(uid=0, gid=0, deep=False)


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
        load_into(DockerImages(options.engine), options.folder)
    print(f"{len(fixes)} tasks of each kind in {options.folder}")


if __name__ == "__main__":
    main()
