"""The composed root: what a bubblewrap sandbox sees as `/`, and the slim Python that lies in it at
/opt/python.

Never the host's `/`: a read-only /usr, a copied Python prefix that holds pytest, our tools, a
handful of files in /etc, and nothing of /run, /var, /home, /root or the host's /tmp. `python -m
sandbox.rootfs` builds the prefix ahead of time; a backend builds it on first use otherwise. What is
writable, and what namespaces surround it, is `sandbox.bubblewrap`'s affair.
"""

import argparse
import compileall
import hashlib
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from sandbox.errors import SandboxUnavailable

COMPOSED_IMAGE = "deepswe-studio/starter:1"
"""The `docker_image` that means: no image to unpack, the composed root itself."""

PYTHON_CACHE = Path(__file__).resolve().parent.parent / "var" / "sandbox-python"
TOOLS = Path(__file__).resolve().parent / "tools"
DISTRIBUTIONS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
LEFT_OUT = (
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "site-packages",
    "dist-packages",
)
LAYOUT = "2"
"""Raised when the layout of the prefix changes, so that an older cache is not used."""

_ETC = {
    "passwd": (
        "root:x:0:0:root:/home/agent:/bin/sh\nagent:x:1000:1000:agent:/home/agent:/bin/bash\n"
    ),
    "group": "root:x:0:\nagent:x:1000:\n",
    "hosts": "127.0.0.1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


def python_prefix(cache: Path = PYTHON_CACHE) -> Path:
    """The folder of the sandbox's Python below `cache`, built if it is not there yet (seconds,
    about 60 MB).

    Raises SandboxUnavailable if pytest, which grading needs, is not installed beside the running
    Python.
    """
    prefix = cache / _fingerprint()
    if not prefix.is_dir():
        _build_prefix(prefix)
    return prefix


def _fingerprint() -> str:
    try:
        versions = [f"{name}={distribution(name).version}" for name in DISTRIBUTIONS]
    except PackageNotFoundError as error:
        raise SandboxUnavailable(
            f"sandbox Python: {error.name} is not installed here: pip install pytest"
        ) from error
    text = "\n".join([LAYOUT, sys.version, sysconfig.get_platform(), *versions])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _build_prefix(prefix: Path) -> None:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=prefix.parent, prefix=".partial-"))
    try:
        _copy_interpreter(partial)
        _copy_distributions(partial / "lib" / _PYTHON / "site-packages")
        compileall.compile_dir(partial / "lib", quiet=2, maxlevels=20)
        partial.chmod(0o755)
        partial.rename(prefix)
    except OSError:
        if not prefix.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


def _copy_interpreter(prefix: Path) -> None:
    executable = prefix / "bin" / _PYTHON
    executable.parent.mkdir()
    shutil.copy2(Path(sys.base_prefix) / "bin" / _PYTHON, executable)
    for alias in ("python", "python3"):
        (prefix / "bin" / alias).symlink_to(_PYTHON)
    pytest = prefix / "bin" / "pytest"
    pytest.write_text('#!/bin/sh\nexec /opt/python/bin/python3 -m pytest "$@"\n')
    pytest.chmod(0o755)
    stdlib = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(stdlib, prefix / "lib" / _PYTHON, symlinks=True, ignore=_left_out)
    libdir = _own_libdir()
    for library in libdir.glob(f"lib{_PYTHON}*.so*") if libdir else ():
        shutil.copy2(library, prefix / "lib" / library.name)


def _left_out(folder: str, names: list[str]) -> set[str]:
    return {
        n
        for n in names
        if n in LEFT_OUT or n.startswith("config-") or n.endswith((".opt-1.pyc", ".opt-2.pyc"))
    }


def _own_libdir() -> Path | None:
    """Where libpython lies when the interpreter needs one from outside /usr (pyenv, conda)."""
    libdir = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    shared = bool(sysconfig.get_config_var("Py_ENABLE_SHARED"))
    return libdir if shared and not libdir.is_relative_to("/usr") else None


def _copy_distributions(site: Path) -> None:
    site.mkdir()
    site.with_name("dist-packages").symlink_to("site-packages")
    for name in DISTRIBUTIONS:
        found = distribution(name)
        for file in found.files or ():
            if ".." in file.parts or "__pycache__" in file.parts:
                continue
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(Path(str(found.locate_file(file))), target)


def library_link() -> tuple[str, str] | None:
    """(target, link) by which libpython is found where the interpreter looks; None if needless."""
    libdir = _own_libdir()
    return ("/opt/python/lib", str(libdir)) if libdir else None


def write_etc(folder: Path) -> None:
    """The sandbox's own /etc files, which name nobody but `agent`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in _ETC.items():
        (folder / name).write_text(text)


class Image(NamedTuple):
    """An unpacked image, readable by all: where it lies on the host, and where it is staged."""

    host: Path
    staged: str


def composed_root(stage: str, image: Image | None) -> list[str]:
    """bwrap arguments that build `/` from what lies staged at `stage`, on `image` when given."""
    base = _image_root(image) if image else _host_usr()
    etc = [name for name in _ETC if image is None or (image.host / "etc" / name).is_file()]
    folders = ("/home", "/opt", "/root") if image else ("/etc", "/home", "/opt", "/root")
    link = library_link()
    return [
        *(arg for folder in folders for arg in ("--dir", folder, "--chmod", "0755", folder)),
        *base,
        *("--ro-bind", f"{stage}/python", "/opt/python"),
        *("--ro-bind", f"{stage}/tools", "/opt/tools"),
        *(("--symlink", *link) if link else ()),
        *(arg for name in etc for arg in ("--ro-bind", f"{stage}/etc/{name}", f"/etc/{name}")),
    ]


def _host_usr() -> list[str]:
    args = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        top = Path("/") / name
        if top.is_symlink():
            args += ["--symlink", str(top.readlink()), f"/{name}"]
        elif top.is_dir():
            args += ["--ro-bind", f"/{name}", f"/{name}"]
    for name in ("local", "src"):
        if (Path("/usr") / name).is_dir():
            args += ["--tmpfs", f"/usr/{name}", "--remount-ro", f"/usr/{name}"]
    return [
        *args,
        "--ro-bind-try",
        "/etc/alternatives",
        "/etc/alternatives",
        "--ro-bind-try",
        "/etc/ld.so.cache",
        "/etc/ld.so.cache",
    ]


_IMAGE_LEFT_OUT = {
    *("proc", "dev", "sys", "tmp", "testbed", "home", "run", "var"),
    *("r2e_tests", ".dockerenv"),
}
_IMAGE_OPENED = ("opt", "root")
"""Folders of an image that ours are laid into: their entries are bound one by one."""


def _image_root(image: Image) -> list[str]:
    link = library_link()
    own = {"opt/python", "opt/tools", *(("/".join(Path(link[1]).parts[1:3]),) if link else ())}
    names = [p.name for p in sorted(image.host.iterdir()) if p.name not in _IMAGE_LEFT_OUT]
    whole = [name for name in names if name not in _IMAGE_OPENED]
    opened = [
        f"{top}/{p.name}"
        for top in _IMAGE_OPENED
        if top in names
        for p in sorted((image.host / top).iterdir())
    ]
    args: list[str] = []
    for name in (*whole, *(name for name in opened if name not in own)):
        top = image.host / name
        if top.is_symlink():
            args += ["--symlink", str(top.readlink()), f"/{name}"]
        else:
            args += ["--ro-bind", f"{image.staged}/{name}", f"/{name}"]
    return args


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.rootfs", description="Build the sandbox's Python."
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=PYTHON_CACHE,
        help="folder to build below (default: %(default)s)",
    )
    print(python_prefix(parser.parse_args(argv).cache))


if __name__ == "__main__":
    main()
