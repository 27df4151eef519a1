"""What every container of ours is labelled with, and who may remove it: shared by the backends that keep sandboxes
on an engine.

A sandbox is abandoned when its lease has run out or when the process that holds it is dead. A process id alone proves
nothing (ids are used again, and mean something else in another container), so a holder is named by the machine's boot,
the pid namespace, the id and the start time; a reaper elsewhere, to which the name means nothing, waits for the lease.
Nothing here talks to an engine.
"""

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from sandbox.base import Recorded, SandboxLabels

LABEL = "deepswe.studio"
"""The label that says "ours"; its value is the sandbox's id. The others are named below it."""


_LEASE = re.compile(r"/?deepswe-[0-9a-f]+-(\d+)")


def lease_name(sandbox_id: str, expires: float) -> str:
    """A container's name, which says until when it is held: labels cannot be changed, a name can."""
    return f"deepswe-{sandbox_id}-{expires:.0f}"


def lease_of(name: str) -> float | None:
    """Until when the container of that name is held; None if the name does not say."""
    found = _LEASE.fullmatch(name)
    return float(found[1]) if found else None


def label_map(labels: SandboxLabels, sandbox_id: str) -> dict[str, str]:
    """The labels of one sandbox, held by this process."""
    return {
        LABEL: sandbox_id,
        f"{LABEL}.run": labels.run,
        f"{LABEL}.rollout": labels.rollout,
        f"{LABEL}.attempt": str(labels.attempt),
        f"{LABEL}.owner": labels.owner,
        f"{LABEL}.holder": holder(),
        f"{LABEL}.expires": f"{labels.expires:.0f}",
    }


def abandoned(
    labels: Mapping[str, str], *, run: str | None = None, expires: float | None = None
) -> bool:
    """Whether anybody may remove the sandbox. `expires` is its renewed lease, where one is known.

    With `run`, every sandbox of that run is, and no other.
    """
    if run is not None:
        return labels.get(f"{LABEL}.run") == run
    if expires is None:
        expires = float(labels.get(f"{LABEL}.expires", "0"))
    return expires < time.time() or holder_is_dead(labels.get(f"{LABEL}.holder", ""))


def recorded(labels: Mapping[str, str], *, expires: float | None = None) -> Recorded:
    """The sandbox of these labels, as `Backend.recorded` tells of it; `expires` as above."""
    return Recorded(
        id=labels[LABEL],
        run=labels.get(f"{LABEL}.run", ""),
        expires=float(labels.get(f"{LABEL}.expires", "0")) if expires is None else expires,
        abandoned=abandoned(labels, expires=expires),
    )


def holder() -> str:
    """This process, by a name that no other process ever has."""
    return f"{_world()} {os.getpid()} {_started(os.getpid())}"


def holder_is_dead(name: str) -> bool:
    """Whether the process of that name is known to be dead; False when it cannot be seen from here."""
    world, _, process = name.rpartition(" ")[0].rpartition(" ")
    if world != _world() or not process.isdigit():
        return False
    return _started(int(process)) != name.rpartition(" ")[2]


def _world() -> str:
    """Where process ids mean what they mean to us: this boot of this machine, this pid namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _started(pid: int) -> str:
    """When the process started, in clock ticks; empty when there is none, or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
