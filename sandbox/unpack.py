"""Images as folders, for bubblewrap: `python -m sandbox.unpack IMAGE` takes one out of a Docker engine.

Below the folder of images each has one of its own, called by its name, percent-encoded. It is whole,
a root file system with /usr in it; or it holds only `testbed` (and `r2e_tests`), and the composed
root of `sandbox.rootfs` is the rest. Nothing in it is ever written to by a sandbox.
"""

import argparse
import io
import os
import secrets
import shutil
import signal
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from sandbox.available import docker_address
from sandbox.base import SandboxLabels
from sandbox.errors import SandboxUnavailable
from sandbox.labels import label_map

IMAGES = Path(__file__).resolve().parent.parent / "var" / "images"
REPOSITORY = "testbed"
TESTS = "r2e_tests"
_LONGEST_S = 6 * 3600.0
"""After which a reaper on another machine may remove the container that an image is taken out of."""


def folder_of(name: str, images: Path = IMAGES) -> Path:
    """Where the image called `name` is, or would be."""
    return images / quote(name, safe="")


def find(name: str, images: Path = IMAGES) -> Path | None:
    """The unpacked image called `name`, if there is one."""
    folder = folder_of(name, images)
    return folder if folder.is_dir() else None


def is_whole(folder: Path) -> bool:
    """Whether the unpacked image has a root of its own."""
    return any((folder / name).is_dir() for name in ("usr", "bin"))


def pack_repository(folder: Path) -> bytes:
    """The repository of an image that is not whole, its tests beside it, as a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(folder / REPOSITORY, ".")
        if (folder / TESTS).is_dir():
            archive.add(folder / TESTS, TESTS)
    return buffer.getvalue()


def unpack(name: str, *, engine: str, images: Path = IMAGES) -> Path:
    """The folder of the image called `name`, taken out of `engine` if it is not there. Raises SandboxUnavailable."""
    folder = folder_of(name, images)
    if folder.is_dir():
        return folder
    images.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=images, prefix=".partial-"))
    try:
        _export(name, engine, partial)
        partial.chmod(0o755)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _export(name: str, engine: str, folder: Path) -> None:
    import docker
    from docker.errors import DockerException

    labels = SandboxLabels.held_here(run="unpack", rollout=name, for_s=_LONGEST_S)
    try:
        client = docker.DockerClient(base_url=engine, timeout=600)
        container = client.containers.create(
            name, ["true"], labels=label_map(labels, secrets.token_hex(8))
        )
        try:
            with tarfile.open(fileobj=_Stream(container.export()), mode="r|") as archive:
                archive.extractall(folder, members=_readable(archive), filter="tar")
        finally:
            container.remove(force=True)
            client.close()
    except (DockerException, OSError, tarfile.TarError) as error:
        raise SandboxUnavailable(
            f"docker_image {name!r}: not unpacked from {engine}: {error}: "
            "pull it there first, and leave room for it on the disk"
        ) from error


def _readable(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Files, folders and links, for everybody to read: a sandbox's user is nobody to the image."""
    for member in archive:
        if member.isfile() or member.isdir():
            member.mode |= 0o555 if member.isdir() or member.mode & 0o111 else 0o444
            yield member
        elif member.issym() or member.islnk():
            yield member


class _Stream(io.RawIOBase):
    """An iterator of bytes as a file that tarfile can read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._left = iter(chunks), b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while len(self._left) < size and (chunk := next(self._chunks, b"")):
            self._left += chunk
        taken, self._left = self._left[:size], self._left[size:]
        return taken


def main(argv: Sequence[str] | None = None) -> int:
    """Unpack images by name; prints their folders. Exit code 1 for the first that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.unpack", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("image", nargs="+", help="name of an image that the engine has")
    parser.add_argument("--engine", default=docker_address(os.environ), help="default: %(default)s")
    parser.add_argument("--to", type=Path, default=IMAGES, help="default: %(default)s")
    options = parser.parse_args(argv)
    try:
        for name in options.image:
            print(unpack(name, engine=options.engine, images=options.to), flush=True)
    except SandboxUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # As an exception, so that the container and the half folder are removed first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
