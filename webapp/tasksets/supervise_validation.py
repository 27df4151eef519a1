"""One validation from claim to end: start `python -m sandbox.validate`, store its events, stop it, settle it.

The process keeps what it found out in the taskset's folder, so a validation that is begun again does
not judge anew what is known. Its verdicts become rows here and nowhere else.
"""

import logging
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F

from sandbox.events import EVENTS_FILE, Finished, TaskJudged, read_events
from webapp.leased_jobs import JobStatus
from webapp.runs import processes, watched
from webapp.tasksets import shipping, validations
from webapp.tasksets.models import Task, Validation

logger = logging.getLogger(__name__)

GRACE_S = 30.0
"""A stopped process finishes the gradings under way; after this it is killed."""


def supervise_validation(validation_id: UUID, shutdown: threading.Event) -> None:
    """Hold the validation until it ends, its lease is lost or `shutdown` is set. Safe to run twice."""
    token = validations.claim(validation_id)
    if token is None:
        return
    validation = Validation.objects.select_related("taskset").get(id=validation_id)
    with watched.HeldLease(token, partial(Validation.objects.renew, validation_id, token)) as lease:
        hold(validation, lease, shutdown)


def hold(validation: Validation, lease: watched.HeldLease, shutdown: threading.Event) -> None:
    """From the start of its process to its end."""
    folder = settings.VALIDATIONS_DIR / quote(validation.taskset.name, safe="")
    folder.mkdir(parents=True, exist_ok=True)
    # A worker that died may have left a process at work on this folder.
    processes.sweep(validation.id)
    begin_reading(validation, folder)
    process = start(validation, folder)
    last: Finished | None = None

    def look() -> None:
        nonlocal last
        last = store_events(validation, folder) or last
        validation.refresh_from_db(fields=["status"])

    try:
        kept = watched.watch(
            process,
            look=look,
            lease=lease,
            shutdown=shutdown,
            stop_wanted=lambda: validation.status == JobStatus.STOPPING or shutdown.is_set(),
            grace_s=GRACE_S,
        )
    finally:
        watched.end(process, validation.id, lease)
    if kept:
        conclude(validation, folder, lease.id, shutdown, code=process.returncode, last=last)
    else:
        logger.warning("validation %s: another worker took it over", validation.id)


def conclude(
    validation: Validation,
    folder: Path,
    lease: UUID,
    shutdown: threading.Event,
    *,
    code: int,
    last: Finished | None,
) -> None:
    """Settle it by the last event of its process, or give it back when the worker ends."""
    cut_short = last is None or last.status == "stopped"
    reason = "Its worker was shut down; goes on where it was."
    if shutdown.is_set() and cut_short and Validation.objects.requeue(validation.id, lease, reason):
        return
    if last is None:
        words = processes.last_words(folder)
        reason = f"Its process ended with exit code {code}: {words}"
        Validation.objects.settle(validation.id, lease, JobStatus.FAILED, reason)
    else:
        Validation.objects.settle(validation.id, lease, JobStatus(last.status), last.reason)


def start(validation: Validation, folder: Path) -> subprocess.Popen[bytes]:
    source = shipping.source_here(validation.taskset.source)
    command = [sys.executable, "-m", "sandbox.validate", source]
    command += ["--out", str(folder), "--runs", str(validation.runs)]
    command += ["--backend", validation.backend]
    return watched.start(command, folder, validation.id)


def begin_reading(validation: Validation, folder: Path) -> None:
    """Only what is written from now on is this validation's."""
    path = folder / EVENTS_FILE
    data = path.read_bytes() if path.exists() else b""
    validation.read_offset = data.rfind(b"\n") + 1
    validation.save(update_fields=["read_offset"])


def store_events(validation: Validation, folder: Path) -> Finished | None:
    """Make rows of the new events; the last of them if it is `finished`."""
    path = folder / EVENTS_FILE
    events = list(read_events(path, validation.read_offset)) if path.exists() else []
    if not events:
        return None
    offset, last = events[-1]
    judged = [event for _, event in events if isinstance(event, TaskJudged)]
    with transaction.atomic():
        moved = Validation.objects.filter(
            id=validation.id, read_offset=validation.read_offset
        ).update(
            read_offset=offset,
            num_judged=F("num_judged") + len(judged),
            num_accepted=F("num_accepted") + sum(event.accepted for event in judged),
        )
        if moved:
            for event in judged:
                _store(validation, event)
    validation.read_offset = offset
    return last if isinstance(last, Finished) else None


def _store(validation: Validation, event: TaskJudged) -> None:
    verdict = {"valid": event.accepted, "reason": event.reason, "runs": event.runs}
    tasks = Task.objects.filter(taskset=validation.taskset_id, task_id=event.task_id)
    tasks.update(validation=verdict)
