"""What is left of a sandbox when its holder is killed, written down so that a reaper can find and
remove it.

One JSON file a sandbox, locked by the process that holds the sandbox: the kernel drops the lock
when that process dies, however it dies, so "is the owner alive" needs no guess about process ids.
Namespaces and files need no record: they die with their holder.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sandbox.base import Recorded, SandboxLabels

STATE = Path(__file__).resolve().parents[2] / "var" / "sandboxes"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One sandbox that exists or existed."""

    id: str
    labels: SandboxLabels
    group_version: int = 0
    """0 when it has no control group."""
    group_folders: dict[str, str]
    """Controller -> folder of its control group."""


class HeldRecord:
    """A record while its sandbox lives; the lock says that the holder does too."""

    def __init__(self, state: Path, record: Record) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self.path = state / f"{record.id}.json"
        partial = state / f"{record.id}.new"
        self._record = record
        self._fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        os.write(self._fd, json.dumps(asdict(record)).encode())
        partial.rename(self.path)

    def renew(self, expires: float) -> None:
        """Write down a later expiry, in place: another file would not hold the lock."""
        labels = replace(self._record.labels, expires=expires)
        row = json.dumps(asdict(replace(self._record, labels=labels))).encode()
        # Never shorter than what is there, so that a reader finds a whole record at any moment.
        os.pwrite(self._fd, row.ljust(os.fstat(self._fd).st_size), 0)

    def revoked(self) -> bool:
        """A reaper has taken the sandbox away."""
        return not self.path.exists()

    def remove(self) -> None:
        with suppress(FileNotFoundError):
            self.path.unlink()
        os.close(self._fd)


def remove_torn(state: Path) -> None:
    """Remove records whose holder died while writing them: no sandbox was made yet."""
    for partial in state.glob("*.new"):
        with suppress(FileNotFoundError), claim(partial) as orphaned:
            if orphaned and not partial.with_suffix(".json").exists():
                partial.unlink(missing_ok=True)


def read_records(state: Path) -> Iterator[tuple[Path, Record]]:
    """Every record in `state`; one removed meanwhile is passed over."""
    for path in sorted(state.glob("*.json")):
        with suppress(FileNotFoundError):
            row = json.loads(path.read_text())
            yield path, Record(**{**row, "labels": SandboxLabels(**row["labels"])})


def recorded(state: Path) -> Iterator[Recorded]:
    """What there is in `state`, held or abandoned."""
    for path, record in read_records(state):
        with suppress(FileNotFoundError), claim(path) as orphaned:
            expires = record.labels.expires
            yield Recorded(
                id=record.id,
                run=record.labels.run,
                expires=expires,
                abandoned=orphaned or expires < time.time(),
            )


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Whether the holder of the record at `path` is dead; while the block runs nobody else may
    claim it.
    """
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
