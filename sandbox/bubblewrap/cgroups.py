"""Control groups: the hard limits of a bubblewrap sandbox on memory, processes and processor time.

Version 1 and version 2, whichever hierarchy of this machine holds the memory and pids controllers.
Groups are made below the group this process is in (v1) or its nearest ancestor that hands both
controllers down (v2), so limits set on us hold for sandboxes too. A machine that lets us make no
group yields None; the caller then falls back to RLIMITs and says that it is weaker.
"""

import errno
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "deepswe-"
_REMOVED = (errno.ENOENT, errno.ENODEV)
"""What reading a group's file gives when the group is gone, or goes while the file is open."""
_CPU_PERIOD_US = 100_000


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """Where groups can be made: one parent a controller in v1, one for all in v2."""

    version: int
    parents: dict[str, Path]

    def group(self, name: str) -> "Group":
        """The group called `name`, which need not exist yet."""
        return Group(
            version=self.version,
            folders={c: p / f"{_PREFIX}{name}" for c, p in self.parents.items()},
        )

    def create(self, name: str, *, memory_mib: int, pids: int, cpus: float) -> "Group":
        """A new group with these limits. Raises OSError."""
        group = self.group(name)
        try:
            for folder in set(group.folders.values()):
                folder.mkdir()
            group.limit(memory_mib=memory_mib, pids=pids, cpus=cpus)
        except OSError:
            group.remove()
            raise
        return group


@dataclass(frozen=True, kw_only=True)
class Group:
    """One sandbox's group."""

    version: int
    folders: dict[str, Path]

    def limit(self, *, memory_mib: int, pids: int, cpus: float) -> None:
        memory, quota = str(memory_mib << 20), str(int(cpus * _CPU_PERIOD_US))
        (self.folders["pids"] / "pids.max").write_text(str(pids))
        if self.version == 1:
            (self.folders["memory"] / "memory.limit_in_bytes").write_text(memory)
            _write_if_there(self.folders["memory"] / "memory.memsw.limit_in_bytes", memory)
            if "cpu" in self.folders:
                _write_if_there(self.folders["cpu"] / "cpu.cfs_quota_us", quota)
        else:
            (self.folders["memory"] / "memory.max").write_text(memory)
            _write_if_there(self.folders["memory"] / "memory.swap.max", "0")
            _write_if_there(self.folders["memory"] / "cpu.max", f"{quota} {_CPU_PERIOD_US}")

    @property
    def procs_files(self) -> list[Path]:
        """Files to which a process writes 0 to enter the group."""
        return sorted({folder / "cgroup.procs" for folder in self.folders.values()})

    def oom_kills(self) -> int:
        """How many processes of the group the kernel has killed for want of memory. Raises OSError if the group is gone."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        for line in (self.folders["memory"] / name).read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
        return 0

    def kill(self) -> None:
        """SIGKILL to every process in the group, until none is left or a second has passed."""
        deadline = time.monotonic() + 1.0
        while (left := self._pids()) and time.monotonic() < deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)

    def remove(self) -> None:
        """End what still runs, remove the group. Raises OSError if it stays busy for a second."""
        self.kill()
        for folder in set(self.folders.values()):
            _rmdir(folder)

    def _pids(self) -> list[int]:
        """Of what is in the group; nothing is in one that has been removed."""
        try:
            return [int(p) for p in (self.folders["pids"] / "cgroup.procs").read_text().split()]
        except OSError as error:
            if error.errno not in _REMOVED:
                raise
            return []


def _write_if_there(file: Path, value: str) -> None:
    if file.exists():
        file.write_text(value)


def _rmdir(folder: Path) -> None:
    deadline = time.monotonic() + 1.0
    while folder.exists():
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def find_hierarchy() -> Hierarchy | None:
    """The hierarchy in which this process may make groups, or None."""
    own = dict(_own_groups())
    mounts = list(_mounts())
    return _find_v1(own, mounts) or _find_v2(own, mounts)


def _own_groups() -> list[tuple[str, str]]:
    """(controller, path) of /proc/self/cgroup; the controller of v2 is the empty string."""
    rows = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    return [(name, path) for _, names, path in rows for name in names.split(",")]


def _mounts() -> list[tuple[Path, str, list[str]]]:
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [
        (Path(row[1]), row[2], row[3].split(",")) for row in rows if row[2] in ("cgroup", "cgroup2")
    ]


def _find_v1(own: dict[str, str], mounts: list[tuple[Path, str, list[str]]]) -> Hierarchy | None:
    parents: dict[str, Path] = {}
    for controller in ("memory", "pids", "cpu"):
        for point, kind, options in mounts:
            if kind == "cgroup" and controller in options:
                parent = point / own.get(controller, "/").lstrip("/")
                parents[controller] = parent if parent.is_dir() else point
    writable = {c: p for c, p in parents.items() if os.access(p, os.W_OK)}
    return Hierarchy(version=1, parents=writable) if {"memory", "pids"} <= writable.keys() else None


def _find_v2(own: dict[str, str], mounts: list[tuple[Path, str, list[str]]]) -> Hierarchy | None:
    for point, kind, _ in mounts:
        if kind != "cgroup2":
            continue
        here = point / own.get("", "/").lstrip("/")
        for parent in (here, *here.parents):
            if not parent.is_relative_to(point):
                break
            if _hands_down(parent):
                return Hierarchy(version=2, parents={"memory": parent, "pids": parent})
    return None


def _hands_down(parent: Path) -> bool:
    control = parent / "cgroup.subtree_control"
    if (
        not control.is_file()
        or not os.access(parent, os.W_OK)
        or not os.access(parent / "cgroup.procs", os.W_OK)
    ):
        return False
    return {"memory", "pids"} <= set(control.read_text().split())
