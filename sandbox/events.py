"""The events of sandbox processes (load, validate): what `events.jsonl` beside their results holds. Light.

How they are written and read is `sandbox.event_log`'s.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from sandbox.event_log import EVENTS_FILE as EVENTS_FILE
from sandbox.event_log import Event, read_lines
from sandbox.event_log import EventWriter as EventWriter


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


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[int, AnyEvent]]:
    """Events from byte `offset` on, each with the offset after it. Raises pydantic.ValidationError."""
    for after, line in read_lines(path, offset):
        yield after, EVENT.validate_json(line)
