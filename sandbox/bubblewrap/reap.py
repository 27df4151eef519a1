"""Removal of bubblewrap sandboxes that nobody may keep any more: told by the locks of their records, never guessed by process
id. Namespaces and files need no reaping, since they die with their holder.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sandbox.base import ReapReport
from sandbox.bubblewrap.cgroups import Group
from sandbox.bubblewrap.records import Record, claim, read_records, remove_torn


class _Closable(Protocol):
    def close(self) -> None: ...


def reap_records(state: Path, *, run: str | None, held: Mapping[str, _Closable]) -> ReapReport:
    """Remove the sandboxes recorded in `state` that nobody may keep; `held` are those of the
    calling process.
    """
    remove_torn(state)
    examined, removed, errors = 0, [], []
    for path, record in read_records(state):
        examined += 1
        try:
            if _reap_one(path, record, run, held.get(record.id)):
                removed.append(record.id)
        except OSError as error:
            errors.append(f"sandbox {record.id}: {error}")
    return ReapReport(examined=examined, removed=tuple(removed), errors=tuple(errors))


def _reap_one(path: Path, record: Record, run: str | None, own: _Closable | None) -> bool:
    """Whether it was for us to remove; one that its holder has just closed was not. Raises OSError."""
    wanted = record.labels.run == run if run is not None else record.labels.expires < time.time()
    if own is not None:
        if wanted:
            own.close()
        return wanted
    with suppress(FileNotFoundError), claim(path) as orphaned:
        if orphaned:
            # Last the record: a reaper that is killed in between leaves it to the next.
            _remove_group(record)
            path.unlink(missing_ok=True)
        elif wanted:
            # First the record: without it the holder, which removes the group too, runs no more.
            path.unlink(missing_ok=True)
            _remove_group(record)
        return orphaned or wanted
    return False


def _remove_group(record: Record) -> None:
    if record.group_folders:
        folders = {c: Path(f) for c, f in record.group_folders.items()}
        Group(version=record.group_version, folders=folders).remove()
