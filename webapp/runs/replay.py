"""Rows from files alone: what `manage.py replay_run` does. The files are the truth.

It reads a run folder as live ingestion does, by the same code. A run that a worker holds is left
alone.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction

from trainer.events import EVENTS_FILE
from webapp.runs.ingest import ingest
from webapp.runs.models import Run, RunStatus
from webapp.runs.supervise import RUN_FILE


class ReplayError(Exception):
    """The folder cannot be replayed; the message says why and what to do."""


@transaction.atomic
def replay(run_dir: Path, *, copy_files: bool = False) -> Run:
    """Rebuild every row of the run whose folder this is.

    Raises ReplayError, IngestError. `copy_files` also puts the large files that are
    missing into the default storage.
    """
    described = describe(run_dir)
    run = Run.objects.filter(id=described["run"]).first()
    if run and run.is_live:
        raise ReplayError(f"run {run.id} is {run.status}: stop it first")
    run = _blank(run, run_dir, described)
    ingest(run.id, run_dir, copy_files=copy_files)
    return _settled(run)


def describe(run_dir: Path) -> dict[str, Any]:
    """The run's id, configuration, name, owner and age: from the first event, and from run.json."""
    events = run_dir / EVENTS_FILE
    if not events.is_file() or not events.stat().st_size:
        raise ReplayError(f"{run_dir}: has no {EVENTS_FILE} to replay; name a run folder")
    with events.open() as lines:
        started = json.loads(lines.readline())
    config = started["config"]
    told = {"run": started["run"], "config": config, "name": config["recipe"], "owner": ""}
    path = run_dir / RUN_FILE
    noted = json.loads(path.read_text()) if path.is_file() else {}
    return told | {"created_at": started["time"]} | noted


def _blank(run: Run | None, run_dir: Path, described: dict[str, Any]) -> Run:
    """The run's row with nothing ingested."""
    if run:
        for rows in (run.events, run.steps, run.groups, run.rollouts, run.evaluations):
            rows.all().delete()
    unread: dict[str, Any] = {"ingest_offset": 0, "last_seq": 0, "attempt": 0, "current_step": 0}
    unread |= {"alarms": {}, "resting": {}}
    known = {
        "name": described["name"],
        "owner": User.objects.filter(username=described["owner"]).first(),
        "created_at": datetime.fromisoformat(described["created_at"]),
        "recipe": described["config"]["recipe"],
        "config": described["config"],
        "num_steps": described["config"]["num_steps"],
        "run_dir": str(run_dir.resolve()),
    }
    # An unknown run is nobody's to go on with: it is shown, and ends as its files say.
    fresh = known | unread | {"status": RunStatus.STOPPED, "reason": "Replayed from its files."}
    row, _ = Run.objects.update_or_create(
        id=UUID(described["run"]), defaults=unread if run else fresh, create_defaults=fresh
    )
    return row


def _settled(run: Run) -> Run:
    """Status, reason and end as the last `finished` event says, if one is last."""
    run.refresh_from_db()
    told = run.events.filter(type__in=("started", "resumed", "finished")).order_by("seq").last()
    if told and told.type == "finished" and run.status != RunStatus.QUEUED:
        run.status = RunStatus(told.payload["status"])
        run.reason = run.reason if run.reason.startswith("Stopped by") else told.payload["reason"]
        run.finished_at = told.time
        run.save(update_fields=["status", "reason", "finished_at"])
    return run
