"""Validations of tasksets: who begins and stops them, and what is sent to the workers.

A taskset has one validation under way at most; the database holds that. Changes of status are `webapp.leased_jobs`', the
process is `supervise_validation`'s.
"""

import logging
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction

from webapp.tasksets.models import Taskset, Validation
from webapp.wake import wake

logger = logging.getLogger(__name__)


def may_validate(user: User | AnonymousUser) -> bool:
    """Tasksets are everybody's, and a validation occupies a worker: staff start and stop them."""
    return user.is_authenticated and user.is_staff


def request(taskset: Taskset, owner: User | AnonymousUser) -> Validation | None:
    """Queue a validation. None when one is under way."""
    try:
        with transaction.atomic():
            validation: Validation = Validation.objects.create(
                taskset=taskset,
                owner_id=owner.pk,
                num_tasks=taskset.tasks.count(),
            )
    except IntegrityError:
        return None
    logger.info("validation %s of %s: queued", validation.id, taskset.name)
    transaction.on_commit(lambda: send(validation.id))
    return validation


def claim(validation_id: UUID) -> UUID | None:
    """Take a queued validation: the lease, or None when it is not to be had."""
    lease: UUID | None = Validation.objects.claim(validation_id, num_judged=0, num_accepted=0)
    return lease


def reap() -> None:
    """Give back what dead workers held, and send again what waits."""
    for validation_id in Validation.objects.reap():
        send(validation_id)


def send(validation_id: UUID) -> None:
    """Ask the workers to look at it. Lost or late messages do no harm: `reap` sends again."""
    wake("tasksets.validate", validation_id)
