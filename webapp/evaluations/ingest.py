"""From a shard's event file to rows: each event once, in order, whoever reads it and however often.

As `webapp.runs.ingest`, by the same reader. A worker that takes over a shard from another machine has no such file: the
rows are then written out as one, so that the process goes on from what is stored.
"""

import json
from pathlib import Path
from uuid import UUID

from django.core.files.storage import default_storage
from django.db import transaction

from trainer.events import EVENT, EVENTS_FILE, AnyEvent, Regraded, RolloutFinished, Started
from webapp.evaluations.models import Shard, ShardEvent
from webapp.evaluations.projection import project, with_taskset
from webapp.rollouts.models import Rollout
from webapp.runs.event_files import next_events, store_files


def ingest(
    shard_id: int, folder: Path, *, copy_files: bool = True, lease: UUID | None = None
) -> int:
    """Store every whole line that is not stored yet, for a holder only while the shard has its `lease`. Returns how many.

    Raises IngestError, StorageAway.
    """
    total = 0
    while stored := _ingest_batch(shard_id, folder, copy_files, lease):
        total += stored
    return total


def _ingest_batch(shard_id: int, folder: Path, copy_files: bool, lease: UUID | None) -> int:
    shard = Shard.objects.select_related("evaluation").get(id=shard_id)
    batch = next_events(folder / EVENTS_FILE, shard.ingest_offset, shard.last_seq)
    if not batch:
        return 0
    prefix = f"evaluations/{shard.evaluation_id}/{shard.number}"
    files: dict[UUID, dict[str, str]] = {}
    for _, event in batch:
        if isinstance(event, RolloutFinished | Regraded):
            names = store_files(prefix, folder, event, copy_files)
            files.setdefault(event.rollout, {}).update(names)
    return len(batch) if _write(shard, batch, files, lease) else 0


def _write(
    shard: Shard,
    batch: list[tuple[int, AnyEvent]],
    files: dict[UUID, dict[str, str]],
    lease: UUID | None,
) -> bool:
    """Rows and offset in one transaction. False when somebody else has stored these lines, or has the shard."""
    offset, last = batch[-1]
    with transaction.atomic():
        unread = Shard.objects.filter(id=shard.id, ingest_offset=shard.ingest_offset)
        if lease:
            unread = unread.filter(lease=lease)
        if unread.update(ingest_offset=offset, last_seq=last.seq) != 1:
            return False
        ShardEvent.objects.bulk_create(ShardEvent.of(event, shard=shard) for _, event in batch)
        for _, event in batch:
            project(event, shard)
        for rollout in Rollout.objects.filter(id__in=files).only("files"):
            rollout.files |= files[rollout.id]
            rollout.save(update_fields=["files"])
    return True


def restore(shard: Shard, folder: Path, host: str, taskset: str) -> None:
    """Write the stored events out as the shard's file, unless `host`, this machine, is where it is.

    `taskset` is the folder on this machine: the process goes on with what it was begun with, and compares.
    """
    path = folder / EVENTS_FILE
    here = shard.host in ("", host)
    if here and (path.exists() or not shard.last_seq):
        Shard.objects.filter(id=shard.id).update(host=host)
        return
    with path.open("wb") as file:
        for row in shard.events.order_by("seq").iterator(chunk_size=500):
            event = EVENT.validate_json(json.dumps(row.as_written))
            if isinstance(event, Started):
                event = event.model_copy(update={"config": with_taskset(event.config, taskset)})
            file.write(event.model_dump_json().encode() + b"\n")
        offset = file.tell()
    Shard.objects.filter(id=shard.id).update(ingest_offset=offset, host=host)


def restore_patches(shard: Shard, folder: Path) -> None:
    """Bring patches that are files from the object store, where this machine does not have them."""
    ended = shard.events.filter(type="rollout_finished", payload__files__has_key="patch")
    for relative in ended.values_list("payload__files__patch", flat=True):
        name = f"evaluations/{shard.evaluation_id}/{shard.number}/{relative}"
        path = (folder / relative).resolve()
        if path.exists() or not path.is_relative_to(folder.resolve()):
            continue
        if default_storage.exists(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            with default_storage.open(name) as stored:
                path.write_bytes(stored.read())
