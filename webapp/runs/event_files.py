"""Event files as ingestion reads them, a run's or an evaluation's: the next lines, and the files that they name.

What becomes of them in the database is `webapp.runs.ingest`'s and `webapp.evaluations.ingest`'s.
"""

import logging
from itertools import islice
from pathlib import Path
from typing import Any

from django.core.files import File
from django.core.files.storage import default_storage
from pydantic import ValidationError

from trainer.events import EVENT, AnyEvent, Regraded, RolloutFinished, read_events

logger = logging.getLogger(__name__)

MAX_BATCH = 500
"""Events in one transaction."""


class IngestError(Exception):
    """The event file says what no run says; the message names file, place and fault."""


class StorageAway(Exception):
    """The storage of large files does not take them at present."""


def next_events(path: Path, offset: int, last_seq: int) -> list[tuple[int, AnyEvent]]:
    """The next lines, each with the offset after it; empty when there is no file or nothing new.

    Raises IngestError.
    """
    if not path.exists():
        return []
    try:
        batch = list(islice(read_events(path, offset), MAX_BATCH))
    except ValidationError as error:
        raise IngestError(f"{path}: after byte {offset}: {error}") from error
    for expected, (_, event) in enumerate(batch, start=last_seq + 1):
        if event.seq != expected:
            raise IngestError(f"{path}: seq {event.seq} where {expected} should be")
    return [(after, _storable(event)) for after, event in batch]


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


def store_files(
    prefix: str, folder: Path, event: RolloutFinished | Regraded, copy_files: bool
) -> dict[str, str]:
    """Copy the files an event names to the default storage, below `prefix`. Kind -> name there, of those it has.

    Raises IngestError for a file outside `folder`, StorageAway.
    """
    names = {}
    for kind, relative in event.files.items():
        source = (folder / relative).resolve()
        name = f"{prefix}/{relative}"
        if not source.is_relative_to(folder.resolve()):
            raise IngestError(f"event {event.seq}: file {relative} is outside the run's folder")
        try:
            stored = _store_file(source, name, copy_files)
        except Exception as error:  # each kind of storage has errors of its own
            raise StorageAway(f"{name} cannot be stored: {error}") from error
        if stored:
            names[kind] = stored
        else:
            logger.warning("%s: file %s of event %d is missing", prefix, relative, event.seq)
    return names


def _store_file(source: Path, name: str, copy_files: bool) -> str:
    """Its name in the default storage; empty when it is neither there nor here."""
    if default_storage.exists(name):
        return name
    if not copy_files or not source.is_file():
        return ""
    with source.open("rb") as content:
        return str(default_storage.save(name, File(content)))
