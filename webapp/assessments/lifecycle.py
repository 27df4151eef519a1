"""Every change of an assessment's status, each a conditional update: of two who try, one succeeds.

    queued -> running -> finished | failed
      |          +--> stopping -> stopped
      +--> stopped
      running -> queued (its worker ended)

An evaluation has one under way at most, and only while none of its shards is: the database holds the first, `request` and
`webapp.evaluations.lifecycle.resume` the second. A worker holds a running one by a lease that it renews.
"""

import logging
from typing import Any
from uuid import UUID, uuid4

from celery import current_app
from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from webapp.assessments.models import Assessment, AssessmentStatus, Kind
from webapp.evaluations.lifecycle import LEASE, QUEUE
from webapp.evaluations.models import Evaluation
from webapp.runs import placement
from webapp.runs.models import Worker
from webapp.verifiers.models import Verifier, VerifierKind

logger = logging.getLogger(__name__)


class RefusedError(Exception):
    """It cannot be begun now; the message says why."""


def request(
    evaluation: Evaluation,
    kind: Kind,
    *,
    verifier: Verifier | None = None,
    owner: User | AnonymousUser | None,
) -> Assessment:
    """Queue an assessment, or the same one that is under way already. Raises RefusedError."""
    if verifier and not verifier.can_be_asked:
        raise RefusedError(f"{verifier.name} is known by its scores alone: register its model.")
    try:
        with transaction.atomic():
            # held until the row is there: `resume` looks for it under the same lock
            locked = Evaluation.objects.select_for_update().get(pk=evaluation.pk)
            if not locked.is_ended:
                raise RefusedError(f"{evaluation.name} is {locked.status}: let it end first.")
            assessment: Assessment = Assessment.objects.create(
                evaluation=evaluation,
                kind=kind,
                verifier=verifier,
                owner_id=owner.pk if owner else None,
                num_wanted=_wanted(evaluation),
            )
    except IntegrityError:
        return _same_under_way(evaluation, kind, verifier)
    logger.info("assessment %s: queued", assessment)
    transaction.on_commit(lambda: send(assessment.id))
    return assessment


def _wanted(evaluation: Evaluation) -> int:
    return evaluation.counted_rollouts().exclude(reward=None).count()


def _same_under_way(evaluation: Evaluation, kind: Kind, verifier: Verifier | None) -> Assessment:
    found: Assessment | None = evaluation.assessments.under_way().first()
    if found and (found.kind, found.verifier) == (kind, verifier):
        return found
    raise RefusedError(f"Another assessment of {evaluation.name} is under way: let it end first.")


def request_stop(assessment: Assessment, by: str) -> bool:
    """A queued one is stopped, a running one told to. False when it was neither."""
    reason = f"Stopped by {by}."
    rows = Assessment.objects.filter(id=assessment.id)
    ended = _ended(AssessmentStatus.STOPPED, reason)
    stopping = {"status": AssessmentStatus.STOPPING, "reason": reason}
    return bool(
        rows.filter(status=AssessmentStatus.QUEUED).update(**ended)
        or rows.filter(status=AssessmentStatus.RUNNING).update(**stopping)
    )


def claim(assessment_id: UUID, worker: Worker | None) -> UUID | None:
    """Take a queued one: the lease, or None when it is not to be had or `worker` cannot do it."""
    found = (
        Assessment.objects.select_related("evaluation", "verifier").filter(id=assessment_id).first()
    )
    if found is None or (worker and obstacle(found, worker)):
        return None
    lease, now = uuid4(), timezone.now()
    taken = {
        "status": AssessmentStatus.RUNNING,
        "reason": "",
        "lease": lease,
        "lease_expires_at": now + LEASE,
        "started_at": now,
        "num_done": 0,
    }
    return lease if _change(assessment_id, {"status": AssessmentStatus.QUEUED}, taken) else None


def renew(assessment_id: UUID, lease: UUID) -> bool:
    """Keep it. False when it was lost, and the caller is to let go at once."""
    return _change(assessment_id, {"lease": lease}, {"lease_expires_at": timezone.now() + LEASE})


def settle(assessment_id: UUID, lease: UUID, status: AssessmentStatus, reason: str) -> bool:
    """End a running one. One that is being stopped keeps the reason of the stop, unless it was finished first."""
    held = {"lease": lease, "status": AssessmentStatus.RUNNING}
    if _change(assessment_id, held, _ended(status, reason)):
        return True
    ended = _ended(status, reason)
    if status != AssessmentStatus.FINISHED:
        ended = _ended(AssessmentStatus.STOPPED, "")
        del ended["reason"]
    return _change(assessment_id, held | {"status": AssessmentStatus.STOPPING}, ended)


def requeue(assessment_id: UUID, lease: UUID, reason: str) -> bool:
    """Give a running one back: scores that are known are not asked for again."""
    again = {"status": AssessmentStatus.QUEUED, "reason": reason, "lease": None}
    return _change(assessment_id, {"lease": lease, "status": AssessmentStatus.RUNNING}, again)


def reap() -> None:
    """Give back what dead workers held, and send again what waits: run it every few seconds, anywhere."""
    silent = Assessment.objects.filter(lease_expires_at__lt=timezone.now())
    reason = "Its worker did not answer; goes on where it was."
    silent.filter(status=AssessmentStatus.RUNNING).update(
        status=AssessmentStatus.QUEUED, reason=reason, lease=None
    )
    stopped = _ended(AssessmentStatus.STOPPED, "Its worker did not confirm the stop.")
    silent.filter(status=AssessmentStatus.STOPPING).update(**stopped)
    waiting = Assessment.objects.filter(status=AssessmentStatus.QUEUED)
    for assessment_id in waiting.values_list("id", flat=True):
        send(assessment_id)


def send(assessment_id: UUID) -> None:
    """Ask the workers to look at it. Lost or late messages do no harm: `reap` sends again."""
    try:
        current_app.send_task("assessments.assess", [str(assessment_id)], expires=30)
    except (OperationalError, OSError) as error:
        logger.warning("assessment %s: broker unreachable: %s", assessment_id, error)


def waiting_for(assessment: Assessment) -> str:
    """One sentence on what a queued one waits for; empty when it is not queued."""
    if assessment.status != AssessmentStatus.QUEUED:
        return ""
    workers = placement.workers_of(QUEUE)
    if not workers:
        return f"Waits for a worker: none is online for the queue {QUEUE}."
    obstacles = {worker.name: obstacle(assessment, worker) for worker in workers}
    if all(obstacles.values()):
        name, why = next(iter(obstacles.items()))
        return f"Waits for a worker that can do it: {name} cannot, {why}."
    return "Waits until a worker is free."


def obstacle(assessment: Assessment, worker: Worker) -> str:
    """Why this worker cannot do it; empty when it can. A judge needs no sandboxes, an agent without an endpoint an engine."""
    verifier, config = assessment.verifier, assessment.evaluation.parsed
    if verifier and verifier.kind == VerifierKind.JUDGE:
        return ""
    needs_engine = verifier is not None and not verifier.endpoint
    missing = placement.shortfall(config.hardware, worker) if needs_engine else ""
    return missing or placement.no_backend(config.sandbox, worker)


def _ended(status: AssessmentStatus, reason: str) -> dict[str, Any]:
    return {
        "status": status,
        "reason": reason,
        "finished_at": timezone.now(),
        "lease": None,
        "lease_expires_at": None,
    }


def _change(assessment_id: UUID, condition: dict[str, Any], new: dict[str, Any]) -> bool:
    return Assessment.objects.filter(id=assessment_id, **condition).update(**new) == 1
