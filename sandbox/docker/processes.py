"""How many processes a container holds, by the kernel's own count, where the engine runs on this machine.

A process is counted from before it exists until it is reaped, so that one which forks and exits without end is never
missed, as it can be by a list of processes. Reading the count costs nothing beside asking the engine for a command.
Elsewhere, or when the count is out of sight, there is no answer.
"""

from contextlib import suppress
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def count_file(container: str, first_pid: int) -> Path | None:
    """The kernel's count of the processes of this container, whose PID 1 the engine calls `first_pid`.

    None when that process is not this container's here: the engine is on another machine, or we are in a container.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{first_pid}/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            hierarchy = _GROUPS / "pids" if "pids" in controllers.split(",") else _GROUPS
            file = hierarchy / group.lstrip("/") / "pids.current"
            if container in group and file.is_file():
                return file
    return None


def count(file: Path | None) -> int | None:
    """What the file says; None when there is none any more."""
    if file is not None:
        with suppress(OSError, ValueError):
            return int(file.read_text())
    return None
