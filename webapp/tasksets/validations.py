"""Every change of a validation's status, each a conditional update: of two who try, one succeeds.

    queued -> running -> finished | failed
      |          +--> stopping -> stopped
      +--> stopped
      running -> queued (its worker ended)

A taskset has one validation under way at most; the database holds that. A worker holds a running one
by a lease that it renews. The process is `supervise_validation`'s.
"""

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction
from django.utils import timezone

from webapp.tasksets.models import Taskset, Validation, ValidationStatus
from webapp.wake import wake

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=20)
HELD = (ValidationStatus.RUNNING, ValidationStatus.STOPPING)


def may_validate(user: User | AnonymousUser) -> bool:
    """Tasksets are everybody's, and a validation occupies a worker: staff start and stop them."""
    return user.is_authenticated and user.is_staff


def request(taskset: Taskset, owner: User | AnonymousUser) -> Validation | None:
    """Queue a validation. None when one is under way."""
    try:
        with transaction.atomic():
            validation = Validation.objects.create(
                taskset=taskset,
                owner_id=owner.pk,
                num_tasks=taskset.tasks.count(),
            )
    except IntegrityError:
        return None
    logger.info("validation %s of %s: queued", validation.id, taskset.name)
    transaction.on_commit(lambda: send(validation.id))
    return validation


def request_stop(taskset: Taskset, by: str) -> bool:
    """A queued one is stopped, a running one told to. False when it was neither."""
    ended = _ended(ValidationStatus.STOPPED, f"Stopped by {by}.")
    stopping = {"status": ValidationStatus.STOPPING, "reason": f"Stopped by {by}."}
    rows = taskset.validations
    return bool(
        rows.filter(status=ValidationStatus.QUEUED).update(**ended)
        or rows.filter(status=ValidationStatus.RUNNING).update(**stopping)
    )


def claim(validation_id: UUID) -> UUID | None:
    """Take a queued validation: the lease, or None when it is not to be had."""
    lease, now = uuid4(), timezone.now()
    taken = _change(
        validation_id,
        {"status": ValidationStatus.QUEUED},
        {
            "status": ValidationStatus.RUNNING,
            "reason": "",
            "lease": lease,
            "lease_expires_at": now + LEASE,
            "started_at": now,
            "num_judged": 0,
            "num_accepted": 0,
        },
    )
    return lease if taken else None


def renew(validation_id: UUID, lease: UUID) -> bool:
    """Keep it. False when it was lost, and the caller is to let go at once."""
    return _change(validation_id, {"lease": lease}, {"lease_expires_at": timezone.now() + LEASE})


def settle(validation_id: UUID, lease: UUID, status: ValidationStatus, reason: str) -> bool:
    """End a running one. One that is being stopped keeps the reason of the stop."""
    held = {"lease": lease, "status": ValidationStatus.RUNNING}
    if _change(validation_id, held, _ended(status, reason)):
        return True
    ended = _ended(ValidationStatus.STOPPED, "")
    del ended["reason"]
    return _change(validation_id, held | {"status": ValidationStatus.STOPPING}, ended)


def requeue(validation_id: UUID, lease: UUID, reason: str) -> bool:
    """Give a running one back: what is judged already is not judged again."""
    again = {"status": ValidationStatus.QUEUED, "reason": reason, "lease": None}
    return _change(validation_id, {"lease": lease, "status": ValidationStatus.RUNNING}, again)


def reap() -> None:
    """Give back what dead workers held, and send again what waits: run it every few seconds, anywhere."""
    silent = Validation.objects.filter(lease_expires_at__lt=timezone.now())
    reason = "Its worker did not answer; goes on where it was."
    silent.filter(status=ValidationStatus.RUNNING).update(
        status=ValidationStatus.QUEUED, reason=reason, lease=None
    )
    stopped = _ended(ValidationStatus.STOPPED, "Its worker did not confirm the stop.")
    silent.filter(status=ValidationStatus.STOPPING).update(**stopped)
    waiting = Validation.objects.filter(status=ValidationStatus.QUEUED)
    for validation_id in waiting.values_list("id", flat=True):
        send(validation_id)


def send(validation_id: UUID) -> None:
    """Ask the workers to look at it. Lost or late messages do no harm: `reap` sends again."""
    wake("tasksets.validate", validation_id)


def _ended(status: ValidationStatus, reason: str) -> dict[str, Any]:
    return {
        "status": status,
        "reason": reason,
        "finished_at": timezone.now(),
        "lease": None,
        "lease_expires_at": None,
    }


def _change(validation_id: UUID, condition: dict[str, Any], new: dict[str, Any]) -> bool:
    return Validation.objects.filter(id=validation_id, **condition).update(**new) == 1
