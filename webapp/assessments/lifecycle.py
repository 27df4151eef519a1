"""Assessments: who begins them, which worker may take one, and what one waits for.

An evaluation has one under way at most, and only while none of its shards is: the database holds the first, `request` and
`webapp.evaluations.lifecycle.resume` the second. Changes of status are `webapp.leased_jobs`'.
"""

import logging
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction

from trainer.config import ConfigError
from webapp.assessments.models import Assessment, Kind
from webapp.evaluations.lifecycle import QUEUE, engine_use
from webapp.evaluations.models import Evaluation
from webapp.leased_jobs import JobStatus
from webapp.runs import placement
from webapp.runs.models import Worker
from webapp.verifiers.models import Verifier, VerifierKind
from webapp.wake import wake

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


def claim(assessment_id: UUID, worker: Worker | None) -> UUID | None:
    """Take a queued one: the lease, or None when it is not to be had or `worker` cannot do it."""
    rows = Assessment.objects.select_related("evaluation", "verifier")
    found = rows.filter(id=assessment_id).first()
    if found is None or (worker and obstacle(found, worker)):
        return None
    with transaction.atomic():
        if worker:
            # as a shard's claim: one engine at a time
            Worker.objects.select_for_update().get(id=worker.id)
            if _waits_for_engine(found, worker):
                return None
        lease: UUID | None = Assessment.objects.claim(assessment_id, num_done=0, worker=worker)
        return lease


def reap() -> None:
    """Give back what dead workers held, and send again what waits."""
    for assessment_id in Assessment.objects.reap():
        send(assessment_id)


def send(assessment_id: UUID) -> None:
    """Ask the workers to look at it. Lost or late messages do no harm: `reap` sends again."""
    wake("assessments.assess", assessment_id)


def waiting_for(assessment: Assessment) -> str:
    """One sentence on what a queued one waits for; empty when it is not queued."""
    if assessment.status != JobStatus.QUEUED:
        return ""
    workers = placement.workers_of(QUEUE)
    if not workers:
        return f"Waits for a worker: none is online for the queue {QUEUE}."
    obstacles = {worker.name: obstacle(assessment, worker) for worker in workers}
    if all(obstacles.values()):
        name, why = next(iter(obstacles.items()))
        return f"Waits for a worker that can do it: {name} cannot, {why}."
    uses = [_waits_for_engine(assessment, w) for w in workers if not obstacles[w.name]]
    if all(uses):
        return f"Waits until a model can be loaded: {uses[0]}."
    return "Waits until a worker is free."


def loads_model(assessment: Assessment) -> bool:
    """Whether the worker's machine does: a judge in its process, or an engine for an agent."""
    return assessment.verifier is not None and not assessment.verifier.endpoint


def _waits_for_engine(assessment: Assessment, worker: Worker) -> str:
    return engine_use(worker) if loads_model(assessment) else ""


def obstacle(assessment: Assessment, worker: Worker) -> str:
    """Why this worker cannot do it; empty when it can. A judge needs no sandboxes, an agent without an endpoint an engine."""
    verifier = assessment.verifier
    if verifier and verifier.kind == VerifierKind.JUDGE:
        return ""
    try:
        config = assessment.evaluation.parsed
    except ConfigError as error:
        return f"its configuration is none of this version's: {error}"
    missing = placement.shortfall(config.hardware, worker) if loads_model(assessment) else ""
    return missing or placement.no_backend(config.sandbox, worker)
