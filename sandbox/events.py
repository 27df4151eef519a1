"""The events of sandbox processes (load, validate): what `events.jsonl` beside their results holds. Light.

The form is that of a run's events: one JSON line each with a gapless `seq` from 1, a time and a type; the file is the truth,
and only a torn last line is ever cut. A process that goes on where an earlier one ended appends to the same file.
"""

import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

EVENTS_FILE = "events.jsonl"


class Event(BaseModel):
    """What every event has. `seq` and `time` are set by the writer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seq: int = 0
    time: datetime = datetime.fromtimestamp(0, UTC)


class Started(Event):
    type: Literal["started"] = "started"
    process: Literal["load", "validate"]
    source: str
    total: int | None
    """Rows or tasks; None when their number is not known before the end."""


class Progress(Event):
    type: Literal["progress"] = "progress"
    done: int
    total: int | None
    sentence: str


class RowRejected(Event):
    """A row that is no task: left out of the taskset."""

    type: Literal["row_rejected"] = "row_rejected"
    row: int
    field: str
    value: str
    remedy: str


class TaskJudged(Event):
    """One task of a validation."""

    type: Literal["task_judged"] = "task_judged"
    task_id: str
    accepted: bool
    reason: str
    runs: int
    seconds: float
    known: bool
    """Taken from an earlier validation of the same content."""


class Finished(Event):
    type: Literal["finished"] = "finished"
    status: Literal["finished", "stopped", "failed"]
    reason: str


AnyEvent = Annotated[
    Started | Progress | RowRejected | TaskJudged | Finished, Field(discriminator="type")
]
EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


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
        """Append and return the event's `seq`."""
        with self._lock:
            self.last_seq += 1
            stamped = event.model_copy(update={"seq": self.last_seq, "time": datetime.now(UTC)})
            self._file.write(stamped.model_dump_json().encode() + b"\n")
            return self.last_seq

    def close(self) -> None:
        self._file.close()


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[int, AnyEvent]]:
    """Whole lines from byte `offset` on, each with the offset after it. Raises pydantic.ValidationError."""
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield offset, EVENT.validate_json(line)


def _mend(path: Path) -> int:
    """Cut a torn last line off and return the last whole line's seq (0 for a new file)."""
    if not path.exists():
        return 0
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        os.truncate(path, len(whole))
    last = whole[:-1].rpartition(b"\n")[2]
    return int(json.loads(last)["seq"]) if last else 0
