"""What is left of a sandbox when its holder is killed, written down so that a reaper can find and
remove it.

One JSON file a sandbox, locked by the process that holds the sandbox: the kernel drops the lock
when that process dies, however it dies, so "is the owner alive" needs no guess about process ids.
Namespaces and files need no record: they die with their holder.
"""

import fcntl
import json
import os
import threading
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
    """A record while its sandbox lives; the lock says that the holder does too. Thread-safe."""

    def __init__(self, state: Path, record: Record) -> None:
        """Raises OSError; nothing is left then."""
        state.mkdir(parents=True, exist_ok=True)
        self.path = state / f"{record.id}.json"
        partial = state / f"{record.id}.new"
        self._record = record
        self._in_use = threading.Lock()
        self._fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            with open(self._fd, "wb", closefd=False) as file:
                file.write(json.dumps(asdict(record)).encode())
            os.fsync(self._fd)
            partial.rename(self.path)
        except BaseException:
            partial.unlink(missing_ok=True)
            self._close()
            raise

    def renew(self, expires: float) -> None:
        """Write down a later expiry, in place: another file would not hold the lock. Raises OSError, also once removed."""
        labels = replace(self._record.labels, expires=expires)
        row = json.dumps(asdict(replace(self._record, labels=labels))).encode()
        with self._in_use:
            # Never shorter than what is there, so that a reader finds a whole record at any moment.
            os.pwrite(self._fd, row.ljust(os.fstat(self._fd).st_size), 0)

    def revoked(self) -> bool:
        """A reaper has taken the sandbox away."""
        return not self.path.exists()

    def remove(self) -> None:
        with self._in_use:
            self.path.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        """Let go of the lock, and of a number that is soon another file's."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def remove_torn(state: Path) -> None:
    """Remove records that nobody holds and that are not whole: one whose holder died while writing it had no sandbox yet,
    and the crash of a machine that cut one short took the sandbox along.
    """
    for partial in state.glob("*.new"):
        with suppress(FileNotFoundError), claim(partial) as orphaned:
            if orphaned and not partial.with_suffix(".json").exists():
                partial.unlink(missing_ok=True)
    for path in state.glob("*.json"):
        with suppress(FileNotFoundError):
            if _read(path) is None:
                with claim(path) as orphaned:
                    if orphaned:
                        path.unlink(missing_ok=True)


def read_records(state: Path) -> Iterator[tuple[Path, Record]]:
    """Every record in `state`; one removed meanwhile, or that is not whole, is passed over."""
    for path in sorted(state.glob("*.json")):
        with suppress(FileNotFoundError):
            record = _read(path)
            if record is not None:
                yield path, record


def _read(path: Path) -> Record | None:
    """The record at `path`; None if it is not whole. Raises FileNotFoundError."""
    try:
        row = json.loads(path.read_bytes())
        return Record(**{**row, "labels": SandboxLabels(**row["labels"])})
    except (ValueError, TypeError, KeyError):
        return None


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
