"""An events file: one JSON line an event with a gapless `seq` from 1, a time and a type. Light.

The file is the truth, and only a torn last line is ever cut. A process that goes on where an earlier one ended appends to
the same file. Which events there are is said in `trainer.events` for runs and in `sandbox.events` for sandbox processes.
"""

import json
import mmap
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

EVENTS_FILE = "events.jsonl"


class Event(BaseModel):
    """What every event has. `seq` and `time` are set by the writer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seq: int = 0
    time: datetime = datetime.fromtimestamp(0, UTC)


class EventWriter:
    """Appends events with a gapless `seq`. Thread-safe. One process at a time may write a file."""

    def __init__(self, folder: Path) -> None:
        """Opens (or goes on with) `folder/events.jsonl`; a torn last line is removed, nothing else."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / EVENTS_FILE
        self._lock = threading.Lock()
        self.last_seq = _mend(self.path)
        self._file = self.path.open("ab", buffering=0)

    def write(self, event: Event) -> int:
        """Append and return the event's `seq`. The line is handed to the kernel before this returns.

        Raises OSError (the disk is full); the file and `last_seq` are then as before.
        """
        with self._lock:
            seq = self.last_seq + 1
            stamped = event.model_copy(update={"seq": seq, "time": datetime.now(UTC)})
            self._append(stamped.model_dump_json().encode() + b"\n")
            self.last_seq = seq
            return seq

    def _append(self, line: bytes) -> None:
        end = self._file.seek(0, os.SEEK_END)
        try:
            while line:  # a disk that fills up takes a part, and says so only when asked again
                line = line[self._file.write(line) :]
        except OSError:
            os.ftruncate(self._file.fileno(), end)
            raise

    def sync(self) -> None:
        """Force the lines to disk; for when what comes next relies on them."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_lines(path: Path, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Whole lines from byte `offset` on, each with the offset after it. A torn last line is left for later."""
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield offset, line


def _mend(path: Path) -> int:
    """Cut a torn last line off and return the last whole line's seq (0 for a new file)."""
    if not path.exists() or not path.stat().st_size:
        return 0
    with path.open("r+b") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            size, end = len(data), data.rfind(b"\n") + 1
            begin = data.rfind(b"\n", 0, max(end - 1, 0)) + 1
            last = data[begin:end]
        if end < size:
            file.truncate(end)
    return int(json.loads(last)["seq"]) if last else 0
