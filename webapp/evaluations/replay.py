"""Rows from files alone: what `manage.py replay_evaluation` does, for an evaluation made in a shell or a predictions file that
`trainer.grade` graded. The files are the truth.
"""

import re
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import transaction

from trainer.events import EVENTS_FILE, Started, read_events_of
from webapp.assessments.results import store_all
from webapp.assessments.selection import work_out_numbers
from webapp.evaluations import lifecycle
from webapp.evaluations.ingest import ingest
from webapp.evaluations.models import Evaluation, EvaluationStatus, Shard, ShardEvent
from webapp.verifiers.registry import RegistryError

_SHARD = re.compile(r"(\d+)-of-(\d+)$")


class ReplayError(Exception):
    """The folder cannot be replayed; the message says why and what to do."""


@transaction.atomic
def replay(folder: Path, *, name: str = "", copy_files: bool = False) -> Evaluation:
    """Rebuild every row of the evaluation whose folder this is. Raises ReplayError, IngestError."""
    shards = _shards(folder)
    if not shards:
        raise ReplayError(f"{folder}: has no {EVENTS_FILE} to replay; name an evaluation's folder")
    started = next(read_events_of(shards[0][2] / EVENTS_FILE, ["started"]))
    assert isinstance(started, Started)
    evaluation = _blank(started, name)
    for number, total, place in shards:
        shard = Shard.objects.create(
            evaluation=evaluation, number=number, total=total, status=EvaluationStatus.STOPPED
        )
        ingest(shard.id, place, copy_files=copy_files)
        _settle(shard)
    try:
        store_all(evaluation, folder)
    except RegistryError as error:
        raise ReplayError(f"{folder}: {error}; rename its file") from error
    lifecycle.settle_whole(evaluation.id)
    evaluation.refresh_from_db()
    work_out_numbers(evaluation)
    return evaluation


def _shards(folder: Path) -> list[tuple[int, int, Path]]:
    """(number, total, folder) of each that has begun."""
    if (folder / EVENTS_FILE).is_file():
        return [(1, 1, folder)]
    found = []
    for path in folder.glob(f"shards/*/{EVENTS_FILE}"):
        if match := _SHARD.search(path.parent.name):
            found.append((int(match[1]), int(match[2]), path.parent))
    return sorted(found)


def _blank(started: Started, name: str) -> Evaluation:
    """The evaluation's row with nothing ingested."""
    known: dict[str, Any] = {"config": started.config, "created_at": started.time}
    evaluation, _ = Evaluation.objects.get_or_create(
        id=UUID(str(started.run)),
        defaults=known | {"name": name or started.config["recipe"] or "Replayed"},
    )
    if evaluation.is_live:
        raise ReplayError(f"evaluation {evaluation.id} is {evaluation.status}: stop it first")
    for rows in (evaluation.rollouts, evaluation.groups, evaluation.shards, evaluation.kept):
        rows.all().delete()
    return evaluation


def _settle(shard: Shard) -> None:
    """As its last event says, if it is the end."""
    told = ShardEvent.objects.filter(shard=shard).exclude(type="regraded")
    last = told.order_by("seq").last()
    if last is not None and last.type == "finished":
        shard.refresh_from_db()
        shard.status, shard.reason = last.payload["status"], last.payload["reason"]
        shard.save(update_fields=["status", "reason"])
