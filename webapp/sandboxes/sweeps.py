"""From a wish to see or remove sandboxes to what came of it: `python -m sandbox.reap`, run by a worker.

A sweep concerns the machine of the worker that takes it (bubblewrap, and whichever engine answers there) and the
cluster that this worker is configured for. Status changes are conditional updates, so that a job may come twice.

    queued -> running -> finished | failed
"""

import json
import logging
import socket
import subprocess
import sys
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.utils import timezone

from webapp.runs.models import Worker
from webapp.sandboxes.models import Sweep, SweepStatus
from webapp.wake import wake

logger = logging.getLogger(__name__)

QUEUE = "default"
EVERY = timedelta(minutes=10)
"""Between two removals that nobody asked for."""
SETTLED = timedelta(minutes=1)
"""A worker that has just started is left in peace for so long."""
TIMEOUT_S = 240.0
"""A cluster takes up to a minute to end its pods."""
GIVE_UP = timedelta(seconds=2 * TIMEOUT_S)
KEEP = timedelta(days=1)


def may_sweep(user: User | AnonymousUser) -> bool:
    """Sandboxes are everybody's: staff look for and remove them."""
    return user.is_authenticated and user.is_staff


def request(*, removes: bool, owner: User | AnonymousUser | None) -> Sweep | None:
    """Queue a sweep. None when one is under way that does at least as much."""
    under_way = Sweep.objects.under_way()
    if (under_way.filter(removes=True) if removes else under_way).exists():
        return None
    sweep: Sweep = Sweep.objects.create(removes=removes, owner_id=owner.pk if owner else None)
    transaction.on_commit(lambda: send(sweep.id))
    return sweep


def send(sweep_id: UUID) -> None:
    """Ask the workers to look at it. Lost or late messages do no harm: `keep_up` sends again."""
    wake("sandboxes.sweep", sweep_id)


def run(sweep_id: UUID) -> None:
    """Do a queued sweep. Safe to run twice."""
    started = {
        "status": SweepStatus.RUNNING,
        "started_at": timezone.now(),
        "host": socket.gethostname(),
    }
    if Sweep.objects.filter(id=sweep_id, status=SweepStatus.QUEUED).update(**started) != 1:
        return
    sweep = Sweep.objects.get(id=sweep_id)
    try:
        ended = {"status": SweepStatus.FINISHED, **_reap(removes=sweep.removes)}
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        ended = {"status": SweepStatus.FAILED, "reason": str(error)}
    logger.info("sweep %s: removed %d sandboxes", sweep_id, len(ended.get("removed", ())))
    running = Sweep.objects.filter(id=sweep_id, status=SweepStatus.RUNNING)
    running.update(finished_at=timezone.now(), **ended)


def _reap(*, removes: bool) -> dict[str, Any]:
    """What the process found, as fields of a `Sweep`. Raises ValueError with its last words."""
    command = [sys.executable, "-m", "sandbox.reap", "--list", *([] if removes else ["--keep"])]
    done = subprocess.run(
        command,
        cwd=settings.BASE_DIR,
        env=settings.CHILD_ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    if not done.stdout:
        words = done.stderr.strip().splitlines() or ["nothing was said"]
        raise ValueError(f"sandbox.reap ended with exit code {done.returncode}: {words[-1]}")
    found = json.loads(done.stdout)
    return {
        "recorded": found["recorded"],
        "removed": found["removed"],
        "errors": found["errors"],
        "unavailable": found.get("unavailable", {}),
    }


def keep_up() -> None:
    """What no message and no worker brings about: run it every few seconds, anywhere."""
    now = timezone.now()
    silent = Sweep.objects.filter(status=SweepStatus.RUNNING, started_at__lt=now - GIVE_UP)
    reason = "Its worker did not answer."
    silent.update(status=SweepStatus.FAILED, reason=reason, finished_at=now)
    for sweep_id in Sweep.objects.filter(status=SweepStatus.QUEUED).values_list("id", flat=True):
        send(sweep_id)
    if _is_due(now):
        Sweep.objects.ended().filter(created_at__lt=now - KEEP).delete()
        request(removes=True, owner=None)


def _is_due(now: Any) -> bool:
    settled = Worker.objects.online().filter(started_at__lt=now - SETTLED)
    if not any(QUEUE in worker.queues for worker in settled):
        return False
    return not Sweep.objects.filter(removes=True, created_at__gt=now - EVERY).exists()
