"""From a run's event file to rows: each event once, in order, whoever reads it and however often.

The file is the truth. How far it was read is stored in the same transaction as the rows, by a
conditional update, so that a second reader, a crash or a database that was away doubles nothing and
loses nothing. What the events mean is in `projection`; where the process is, in `supervise`.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from asgiref.sync import async_to_sync
from django.db import transaction
from redis.exceptions import RedisError

from trainer.events import EVENTS_FILE, AnyEvent, RolloutFinished
from webapp.rollouts.models import Rollout
from webapp.runs import feed
from webapp.runs.event_files import IngestError as IngestError
from webapp.runs.event_files import StorageAway as StorageAway
from webapp.runs.event_files import next_events, store_files
from webapp.runs.models import Event, Run
from webapp.runs.projection import project

logger = logging.getLogger(__name__)

PROJECTED = ("attempt", "current_step", "started_at", "alarms", "resting")
"""Fields of a run that its events decide."""


def ingest(
    run_id: UUID,
    run_dir: Path,
    *,
    copy_files: bool = True,
    keep: Callable[[], None] = lambda: None,
) -> int:
    """Store every whole line that is not stored yet. Returns how many. `keep` is called again and again meanwhile.

    Raises IngestError for a file that cannot be understood; django.db errors pass through, and
    calling it again later goes on where it stopped.
    """
    total = 0
    while stored := _ingest_batch(run_id, run_dir, copy_files, keep):
        total += stored
    return total


def _ingest_batch(run_id: UUID, run_dir: Path, copy_files: bool, keep: Callable[[], None]) -> int:
    run = Run.objects.get(id=run_id)
    batch = next_events(run_dir / EVENTS_FILE, run.ingest_offset, run.last_seq)
    if not batch:
        return 0
    files = {}
    for _, event in batch:
        if isinstance(event, RolloutFinished):
            keep()
            files[event.rollout] = store_files(f"runs/{run.id}", run_dir, event, copy_files)
    keep()
    if not _write(run, batch, files):
        return 0
    _tell(run.id, run.last_seq)
    return len(batch)


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
        Event.objects.bulk_create(Event.of(event, run=run) for _, event in batch)
        for _, event in batch:
            project(event, run)
        for rollout, names in files.items():
            Rollout.objects.filter(id=rollout).update(files=names)
        run.save(update_fields=PROJECTED)
    return True


def _tell(run_id: UUID, last_seq: int) -> None:
    """Nudge those who watch. They look by themselves every second, so a dead Redis is no fault."""
    try:
        async_to_sync(feed.nudge)(run_id, last_seq)
    except (RedisError, OSError) as error:
        logger.warning("run %s: no nudge: %s", run_id, error)
