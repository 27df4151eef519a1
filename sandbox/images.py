"""Make the starter's Docker image on this machine, without a registry: `python -m sandbox.images`.

A minimal Debian by debootstrap (needs root and a Debian mirror; about a minute), with git, our
Python and the tools laid in as the composed root has them. Images of real tasks are pulled, not
made here.
"""

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import docker

from sandbox import rootfs
from sandbox.docker import SOCKET
from sandbox.errors import SandboxUnavailable

_PACKAGES = "git,python3,procps"
"""python3 for the libraries that our own Python is linked against."""


def build_root(root: Path) -> None:
    """Lay the image's files into the empty folder `root`. Raises SandboxUnavailable."""
    if shutil.which("debootstrap") is None:
        raise SandboxUnavailable("debootstrap not found: apt-get install debootstrap")
    release = dict(
        line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines()
    )
    argv = [
        "debootstrap",
        "--variant=minbase",
        f"--include={_PACKAGES}",
        release["VERSION_CODENAME"],
        str(root),
    ]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise SandboxUnavailable(f"debootstrap: {done.stdout.strip()[-300:]}")
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


def import_image(root: Path, base_url: str) -> None:
    """Make the folder an image called as the bundled tasks call it."""
    with subprocess.Popen(
        ["tar", "-C", str(root), "-cf", "-", "."], stdout=subprocess.PIPE
    ) as archive:
        repository, _, tag = rootfs.COMPOSED_IMAGE.partition(":")
        client = docker.DockerClient(base_url=base_url, timeout=600)
        client.api.import_image_from_stream(archive.stdout, repository=repository, tag=tag)
        client.close()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.images", description="Make the starter's Docker image."
    )
    parser.add_argument(
        "--engine", default=SOCKET, help="address of the Docker engine (default: %(default)s)"
    )
    engine = parser.parse_args(argv).engine
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        build_root(root)
        import_image(root, engine)
    print(rootfs.COMPOSED_IMAGE)


if __name__ == "__main__":
    main()
