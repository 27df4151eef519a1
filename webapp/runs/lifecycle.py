"""Every change of a run's status, each a conditional update: of two who try, one succeeds.

    queued -> starting -> running -> finished | failed
      |          |           |
      |          +-----------+--> stopping -> stopped
      +--> stopped                 stopped, failed -> queued (resume)
      starting, running -> queued (the worker was shut down)

A worker holds a live run by a lease that it renews. Whose lease ran out has lost the run to the
next claim. Processes are not touched here: `supervise` starts and ends them.
"""

import logging
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from trainer.config import TrainConfig
from webapp.leased_jobs import LEASE
from webapp.runs import placement
from webapp.runs.models import ENDED_STATUSES, LIVE_STATUSES, Run, RunStatus, Worker
from webapp.wake import wake
from webapp.webhooks.announce import announce

logger = logging.getLogger(__name__)

GIVE_UP_STOPPING = timedelta(seconds=60)
"""A stop that nobody confirmed for so long after the lease ran out is taken for done."""
RESUMABLE = (RunStatus.STOPPED, RunStatus.FAILED)


class Claim(NamedTuple):
    lease: UUID
    fresh: bool
    """False when an earlier worker lost it: its process may still be at work, or done."""


def may_change(user: User | AnonymousUser, run: Run) -> bool:
    """Whether `user` may stop and resume it: its owner and staff may."""
    return user.is_authenticated and (user.is_staff or run.owner_id == user.pk)


# ---- what people ask for


def launch(
    *, config: TrainConfig, name: str, owner: User | None, cloned_from: Run | None = None
) -> Run:
    """Queue a new run."""
    run: Run = Run.objects.create(
        name=name,
        recipe=config.recipe,
        config=config.model_dump(mode="json"),
        num_steps=config.num_steps,
        owner=owner,
        cloned_from=cloned_from,
    )
    logger.info("run %s: queued", run.id)
    transaction.on_commit(lambda: send(run.id))
    return run


def request_stop(run: Run, by: str) -> bool:
    """A queued run is stopped, a live one told to. False when it was neither."""
    reason = f"Stopped by {by}."
    ended = {"status": RunStatus.STOPPED, "reason": reason, "finished_at": timezone.now()}
    stopping = {"status": RunStatus.STOPPING, "reason": reason}
    return _change(run.id, {"status": RunStatus.QUEUED}, ended) or _change(
        run.id, {"status__in": (RunStatus.STARTING, RunStatus.RUNNING)}, stopping
    )


def resume(run: Run) -> bool:
    """Queue a stopped or failed run again: it goes on from its last checkpoint."""
    again = {
        "status": RunStatus.QUEUED,
        "reason": "",
        "queued_at": timezone.now(),
        "finished_at": None,
    }
    changed = _change(run.id, {"status__in": RESUMABLE}, again)
    if changed:
        transaction.on_commit(lambda: send(run.id))
    return changed


# ---- what workers do


def claim(run_id: UUID, worker: Worker) -> Claim | None:
    """Take a queued run, or a live one whose lease ran out. None when it is not to be had."""
    lease = uuid4()
    held = {"lease": lease, "worker": worker, "lease_expires_at": timezone.now() + LEASE}
    with transaction.atomic():
        # Two claims of one worker go one after the other: it trains one run at a time.
        Worker.objects.select_for_update().get(id=worker.id)
        run = Run.objects.filter(id=run_id).first()
        others = Run.objects.live().filter(worker=worker).exclude(id=run_id)
        if run is None or others.exists() or placement.obstacle(run, worker):
            return None
        if _change(run_id, {"status": RunStatus.QUEUED}, held | {"status": RunStatus.STARTING}):
            return Claim(lease, fresh=True)
        orphaned = {"status__in": LIVE_STATUSES, "lease_expires_at__lt": timezone.now()}
        return Claim(lease, fresh=False) if _change(run_id, orphaned, held) else None


def renew(run_id: UUID, lease: UUID) -> bool:
    """Keep it. False when it was lost, and the caller is to let go at once."""
    return _change(run_id, {"lease": lease}, {"lease_expires_at": timezone.now() + LEASE})


def mark_running(run_id: UUID, lease: UUID) -> bool:
    return _change(
        run_id,
        {"lease": lease, "status": RunStatus.STARTING},
        {"status": RunStatus.RUNNING, "reason": ""},
    )


def settle(
    run_id: UUID, lease: UUID, status: RunStatus, reason: str, at: datetime | None = None
) -> bool:
    """End a live run."""
    ended = _released() | {"status": status, "reason": reason, "finished_at": at or timezone.now()}
    return _change(run_id, {"lease": lease, "status__in": LIVE_STATUSES}, ended)


def requeue(run_id: UUID, lease: UUID, reason: str) -> bool:
    """Give a live run back to the queue, unless it is being stopped."""
    going = (RunStatus.STARTING, RunStatus.RUNNING)
    again = _released() | {"status": RunStatus.QUEUED, "reason": reason}
    return _change(run_id, {"lease": lease, "status__in": going}, again)


def abandon(worker: Worker) -> list[UUID]:
    """Let the leases run out that an earlier process of this worker held. Returns its runs."""
    runs = Run.objects.live().filter(worker=worker)
    runs.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    return list(runs.values_list("id", flat=True))


def _released() -> dict[str, Any]:
    return {"lease": None, "lease_expires_at": None}


def _change(run_id: UUID, condition: dict[str, Any], new: dict[str, Any]) -> bool:
    with transaction.atomic():
        changed: int = Run.objects.filter(id=run_id, **condition).update(**new)
        if changed and new.get("status") in ENDED_STATUSES:
            _announce_end(Run.objects.get(id=run_id))
    if changed and "status" in new:
        logger.info("run %s: %s. %s", run_id, new["status"].value, new.get("reason", ""))
    return changed == 1


def _announce_end(run: Run) -> None:
    told = ("name", "recipe", "status", "reason", "current_step", "num_steps")
    data = {"id": str(run.id), **{name: getattr(run, name) for name in told}}
    data["url"] = settings.PUBLIC_URL + reverse("runs:run", args=[run.id])
    announce(run.owner_id, f"run.{run.status}", data)


# ---- messages: they only wake a worker; the rows say what is to be done


def send(run_id: UUID) -> None:
    """Ask the workers to look at a run. Lost or late messages do no harm: `reap` sends again."""
    wake("runs.train_run", run_id)


def reap() -> None:
    """What no message and no worker brings about: run it every few seconds, anywhere."""
    now = timezone.now()
    silent = Run.objects.live().filter(lease_expires_at__lt=now)
    for run_id in silent.values_list("id", flat=True):
        send(run_id)
    send_next()
    unconfirmed = {
        "status": RunStatus.STOPPING,
        "lease_expires_at__lt": now - GIVE_UP_STOPPING,
    }
    gone = _released() | {
        "status": RunStatus.STOPPED,
        "reason": "Its worker did not confirm the stop.",
        "finished_at": now,
    }
    for run_id in silent.filter(**unconfirmed).values_list("id", flat=True):
        _change(run_id, unconfirmed, gone)


def send_next() -> None:
    """Wake an idle worker for each queued run that it could take, oldest first."""
    idle = placement.idle_train_workers()
    queued = Run.objects.filter(status=RunStatus.QUEUED).order_by("queued_at") if idle else []
    for run in queued:
        fitting = [worker for worker in idle if not placement.obstacle(run, worker)]
        if fitting:
            idle.remove(fitting[0])
            send(run.id)
