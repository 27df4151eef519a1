"""From a run's event file to rows: each event once, in order, whoever reads it and however often.

The file is the truth. How far it was read is stored in the same transaction as the rows, by a
conditional update, so that a second reader, a crash or a database that was away doubles nothing and
loses nothing. What the events mean is in `projection`; where the process is, in `supervise`.
"""

import logging
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import transaction
from pydantic import ValidationError
from redis.exceptions import RedisError

from trainer.events import EVENT, EVENTS_FILE, AnyEvent, RolloutFinished, read_events
from webapp.rollouts.models import Rollout
from webapp.runs import feed
from webapp.runs.models import Event, Run
from webapp.runs.projection import project

logger = logging.getLogger(__name__)

MAX_BATCH = 500
"""Events in one transaction."""
PROJECTED = ("attempt", "current_step", "started_at", "alarms", "resting")
"""Fields of a run that its events decide."""


class IngestError(Exception):
    """The event file says what no run says; the message names file, place and fault."""


def ingest(run_id: UUID, run_dir: Path, *, copy_files: bool = True) -> int:
    """Store every whole line that is not stored yet. Returns how many.

    Raises IngestError for a file that cannot be understood; django.db errors pass through, and
    calling it again later goes on where it stopped.
    """
    total = 0
    while stored := _ingest_batch(run_id, run_dir, copy_files):
        total += stored
    return total


def _ingest_batch(run_id: UUID, run_dir: Path, copy_files: bool) -> int:
    run = Run.objects.get(id=run_id)
    batch = _read(run, run_dir)
    if not batch:
        return 0
    files = {
        event.rollout: _store_files(run, run_dir, event, copy_files)
        for _, event in batch
        if isinstance(event, RolloutFinished)
    }
    if not _write(run, batch, files):
        return 0
    _tell(run.id, run.last_seq)
    return len(batch)


def _read(run: Run, run_dir: Path) -> list[tuple[int, AnyEvent]]:
    """The next lines, each with the offset after it; empty when there is no file or nothing new."""
    path = run_dir / EVENTS_FILE
    if not path.exists():
        return []
    try:
        batch = list(islice(read_events(path, run.ingest_offset), MAX_BATCH))
    except ValidationError as error:
        raise IngestError(f"{path}: after byte {run.ingest_offset}: {error}") from error
    for expected, (_, event) in enumerate(batch, start=run.last_seq + 1):
        if event.seq != expected:
            raise IngestError(f"{path}: seq {event.seq} where {expected} should be")
    return [(offset, _storable(event)) for offset, event in batch]


def _storable(event: AnyEvent) -> AnyEvent:
    """PostgreSQL has no NUL in text: an agent's NUL is stored as the picture of one."""
    written = event.model_dump_json()
    if "\\u0000" not in written:
        return event
    return EVENT.validate_python(_without_nul(event.model_dump()))


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\N{SYMBOL FOR NULL}")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nul(item) for item in value]
    return value


def _write(run: Run, batch: list[tuple[int, AnyEvent]], files: dict[UUID, dict[str, str]]) -> bool:
    """Rows and offset in one transaction. False when somebody else has stored these lines."""
    read_from, (run.ingest_offset, last) = run.ingest_offset, batch[-1]
    run.last_seq = last.seq
    with transaction.atomic():
        moved = Run.objects.filter(id=run.id, ingest_offset=read_from).update(
            ingest_offset=run.ingest_offset, last_seq=run.last_seq
        )
        if moved != 1:
            return False
        Event.objects.bulk_create(_row(run, event) for _, event in batch)
        for _, event in batch:
            project(event, run)
        for rollout, names in files.items():
            Rollout.objects.filter(id=rollout).update(files=names)
        run.save(update_fields=PROJECTED)
    return True


def _row(run: Run, event: AnyEvent) -> Event:
    payload = event.model_dump(mode="json", exclude={"seq", "time", "type"})
    return Event(run=run, seq=event.seq, time=event.time, type=event.type, payload=payload)


def _store_files(
    run: Run, run_dir: Path, event: RolloutFinished, copy_files: bool
) -> dict[str, str]:
    """Copy the files an event names to the default storage. Kind -> name there, of those it has."""
    names = {}
    for kind, relative in event.files.items():
        source = (run_dir / relative).resolve()
        name = f"runs/{run.id}/{relative}"
        if not source.is_relative_to(run_dir.resolve()):
            raise IngestError(f"event {event.seq}: file {relative} is outside the run's folder")
        if default_storage.exists(name):
            names[kind] = name
        elif copy_files and source.is_file():
            with source.open("rb") as content:
                names[kind] = default_storage.save(name, File(content))
        else:
            logger.warning("run %s: file %s of event %d is missing", run.id, relative, event.seq)
    return names


def _tell(run_id: UUID, last_seq: int) -> None:
    """Nudge those who watch. They look by themselves every second, so a dead Redis is no fault."""
    try:
        async_to_sync(feed.nudge)(run_id, last_seq)
    except (RedisError, OSError) as error:
        logger.warning("run %s: no nudge: %s", run_id, error)
