"""Make the starter's Docker image on this machine, without a registry: `python -m sandbox.images`.

A minimal Debian by debootstrap (needs root and a Debian mirror; about a minute) with git, and on it our
Python and the tools, laid in as the composed root has them. With a cache folder Debian is fetched
once; ours is laid on it anew each time, in seconds. Images of real tasks are pulled, not made here.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import docker

from sandbox import rootfs
from sandbox.available import docker_address
from sandbox.errors import SandboxUnavailable

_PACKAGES = "git,python3,procps"
"""python3 for the libraries that our own Python is linked against."""
_LEFT_OUT = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale")
"""Folders whose contents no task needs: a third of the image."""


def write_archive(archive: Path, cache: Path) -> None:
    """Write the image's files to `archive`, a tar file: Debian as `cache` keeps it, and ours on top.

    Raises SandboxUnavailable.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        subprocess.run(["tar", "-C", str(root), "-xpf", str(debian_archive(cache))], check=True)
        lay_ours(root)
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)


def lay_ours(root: Path) -> None:
    """Lay into `root`, a Debian, what the image has beyond it."""
    shutil.copytree(rootfs.python_prefix(), root / "opt" / "python", symlinks=True)
    shutil.copytree(
        rootfs.TOOLS, root / "opt" / "tools", ignore=shutil.ignore_patterns("__pycache__")
    )
    rootfs.write_etc(root / "etc")
    for folder in ("testbed", "home/agent"):
        (root / folder).mkdir(parents=True)
    link = rootfs.library_link()
    if link:
        target = root / link[1].lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(link[0])
        (root / "root").chmod(0o755)


def debian_archive(cache: Path) -> Path:
    """The bare Debian below `cache`, a tar file, fetched when it is not there. Raises SandboxUnavailable."""
    cache.mkdir(parents=True, exist_ok=True)
    made_of = repr((_release(), _PACKAGES, _LEFT_OUT)).encode()
    archive = cache / f"debian-{hashlib.sha256(made_of).hexdigest()[:16]}.tar"
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            partial = Path(folder) / archive.name
            _fetch_debian(Path(folder) / "root", partial)
            partial.rename(archive)
    return archive


def _fetch_debian(root: Path, archive: Path) -> None:
    if shutil.which("debootstrap") is None:
        raise SandboxUnavailable("debootstrap not found: apt-get install debootstrap")
    argv = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _release(), str(root)]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise SandboxUnavailable(f"debootstrap: {done.stdout.strip()[-300:]}")
    left_out = [f"--exclude=./{folder}/*" for folder in _LEFT_OUT]
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), *left_out, "."], check=True)


def _release() -> str:
    """Code name of this machine's Debian. Raises SandboxUnavailable where it has none."""
    lines = Path("/etc/os-release").read_text().splitlines()
    release = dict(line.partition("=")[::2] for line in lines)
    try:
        return release["VERSION_CODENAME"]
    except KeyError:
        raise SandboxUnavailable(
            "no VERSION_CODENAME in /etc/os-release: make the image on Debian"
        ) from None


def make_image(base_url: str, cache: Path) -> None:
    """Make the image in the engine at `base_url`. Raises SandboxUnavailable."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "image.tar"
        write_archive(archive, cache)
        import_archive(archive, base_url)


def import_archive(archive: Path, base_url: str) -> None:
    """Make the tar file an image called as the bundled tasks call it."""
    repository, _, tag = rootfs.COMPOSED_IMAGE.partition(":")
    client = docker.DockerClient(base_url=base_url, timeout=600)
    try:
        client.api.import_image(src=str(archive), repository=repository, tag=tag)
    finally:
        client.close()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.images", description="Make the starter's Docker image."
    )
    parser.add_argument(
        "--engine",
        default=docker_address(os.environ),
        help="address of the Docker engine (default: %(default)s)",
    )
    parser.add_argument(
        "--cache", type=Path, help="folder that keeps the bare Debian for the next time"
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        make_image(args.engine, args.cache or Path(folder))
    print(rootfs.COMPOSED_IMAGE)


if __name__ == "__main__":
    main()
