"""Every change of an evaluation's and its shards' status, each a conditional update: of two who try, one succeeds.

    shard:  queued -> running -> finished | failed
               |         +--> stopping -> stopped
               +--> stopped          stopped, failed -> queued (resume)
               running -> queued (its worker ended)

A worker holds a running shard by a lease that it renews. An evaluation's status is what its shards' come to. The process is
`supervise`'s.
"""

import logging
import os
from datetime import timedelta
from functools import cached_property
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.urls import reverse
from django.utils import timezone

from trainer.config import ConfigError
from trainer.evaluations.config import EvalConfig
from webapp.evaluations.models import (
    ENDED,
    HELD,
    ContextSweep,
    Evaluation,
    EvaluationStatus,
    Shard,
)
from webapp.leased_jobs import LEASE
from webapp.runs import placement
from webapp.runs.models import Run, Worker
from webapp.wake import wake
from webapp.webhooks.announce import announce

logger = logging.getLogger(__name__)

MAX_SHARDS = 64
QUEUE = "evaluate"


def may_change(user: User | AnonymousUser, evaluation: Evaluation) -> bool:
    """Whether `user` may stop and resume it: its owner and staff may."""
    return user.is_authenticated and (user.is_staff or evaluation.owner_id == user.pk)


# ---- what people ask for


def check_key(config: EvalConfig, user: User | AnonymousUser) -> None:
    """Raises ConfigError where one who is not staff names a key file: what a worker may read would be sent to any address."""
    if config.model.api_key_file and not user.is_staff:
        message = f"{config.model.api_key_file}: a file of the workers' that is sent to the endpoint; only staff may name one"
        raise ConfigError([("model.api_key_file", message)])


def launch(
    *,
    config: EvalConfig,
    name: str,
    owner: User | None,
    num_shards: int = 1,
    sweep: ContextSweep | None = None,
) -> Evaluation:
    """Queue a new evaluation in so many shards."""
    with transaction.atomic():
        evaluation = Evaluation.objects.create(
            name=name, config=config.model_dump(mode="json"), owner=owner, sweep=sweep
        )
        Shard.objects.bulk_create(
            Shard(evaluation=evaluation, number=number, total=num_shards)
            for number in range(1, num_shards + 1)
        )
    logger.info("evaluation %s: queued in %d shards", evaluation.id, num_shards)
    _send_after_commit(evaluation)
    return evaluation


def request_stop(evaluation: Evaluation, by: str) -> bool:
    """Queued shards are stopped, running ones told to. False when there was neither."""
    reason = f"Stopped by {by}."
    shards = evaluation.shards
    with transaction.atomic():
        waiting = shards.filter(status=EvaluationStatus.QUEUED).update(
            **_released(EvaluationStatus.STOPPED, reason)
        )
        running = shards.filter(status=EvaluationStatus.RUNNING).update(
            status=EvaluationStatus.STOPPING, reason=reason
        )
        settle_whole(evaluation.id)
    return bool(waiting or running)


def resume(evaluation: Evaluation) -> bool:
    """Queue stopped and failed shards again, and finished ones with rollouts without a score.

    False when there are none, or while an assessment reads what is there.
    """
    with transaction.atomic():
        # an assessment is begun under the same lock
        Evaluation.objects.select_for_update().get(pk=evaluation.pk)
        return not evaluation.assessments.under_way().exists() and _queue_again(evaluation)


def why_not(evaluation: Evaluation) -> str:
    """Why it was not resumed."""
    if evaluation.assessments.under_way().exists():
        return "it is being verified or graded again; let that end, or stop it"
    return "all its rollouts have a score" if evaluation.is_ended else "it has not ended"


def _queue_again(evaluation: Evaluation) -> bool:
    again = evaluation.shards.filter(status__in=ENDED)
    if _is_complete(evaluation):
        again = again.exclude(status=EvaluationStatus.FINISHED)
    changed = again.update(status=EvaluationStatus.QUEUED, reason="")
    settle_whole(evaluation.id)
    if changed:
        _send_after_commit(evaluation)
    return bool(changed)


def _is_complete(evaluation: Evaluation) -> bool:
    return not evaluation.counted_rollouts().filter(reward=None).exists()


# ---- what workers do


def claim(shard_id: int, worker: Worker | None) -> UUID | None:
    """Take a queued shard: the lease, or None when it is not to be had or `worker` cannot do it."""
    shard = Shard.objects.select_related("evaluation").filter(id=shard_id).first()
    if shard is None or (worker and obstacle(shard.evaluation, worker)):
        return None
    with transaction.atomic():
        if worker:
            # Two threads of one worker are not to start an engine each.
            Worker.objects.select_for_update().get(id=worker.id)
            if starts_engine(shard.evaluation) and engine_use(worker):
                return None
        return _take(shard_id, worker)


def _take(shard_id: int, worker: Worker | None) -> UUID | None:
    lease = uuid4()
    taken = {
        "status": EvaluationStatus.RUNNING,
        "reason": "",
        "worker": worker,
        "lease": lease,
        "lease_expires_at": timezone.now() + LEASE,
    }
    return lease if _change(shard_id, {"status": EvaluationStatus.QUEUED}, taken) else None


def renew(shard_id: int, lease: UUID) -> bool:
    """Keep it. False when it was lost, and the caller is to let go at once."""
    return _change(shard_id, {"lease": lease}, {"lease_expires_at": timezone.now() + LEASE})


def settle(shard_id: int, lease: UUID, status: EvaluationStatus, reason: str) -> bool:
    """End a running shard. One that is being stopped keeps the reason of the stop."""
    running = {"lease": lease, "status": EvaluationStatus.RUNNING}
    if _change(shard_id, running, _released(status, reason)):
        return True
    ended = _released(
        status if status == EvaluationStatus.FINISHED else EvaluationStatus.STOPPED, ""
    )
    del ended["reason"]
    return _change(shard_id, running | {"status": EvaluationStatus.STOPPING}, ended)


def requeue(shard_id: int, lease: UUID, reason: str) -> bool:
    """Give a running shard back: what has a score is not done again."""
    again = _released(EvaluationStatus.QUEUED, reason)
    return _change(shard_id, {"lease": lease, "status": EvaluationStatus.RUNNING}, again)


def abandon(worker: Worker) -> None:
    """Let the leases run out that an earlier process of this worker held."""
    held = Shard.objects.filter(worker=worker, status__in=HELD)
    held.update(lease_expires_at=timezone.now() - timedelta(seconds=1))


def reap() -> None:
    """Give back what dead workers held, send again what waits, end what none is left of: run it every few seconds, anywhere."""
    silent = Shard.objects.filter(lease_expires_at__lt=timezone.now())
    for shard in silent.filter(status__in=HELD):
        reason = "Its worker did not answer; goes on where it was."
        new = _released(EvaluationStatus.QUEUED, reason)
        if shard.status == EvaluationStatus.STOPPING:
            new = _released(EvaluationStatus.STOPPED, "Its worker did not confirm the stop.")
        _change(shard.id, {"lease": shard.lease, "status": shard.status}, new)
    for shard_id in Shard.objects.filter(status=EvaluationStatus.QUEUED).values_list(
        "id", flat=True
    ):
        send(shard_id)
    going = Evaluation.objects.exclude(status__in=ENDED)
    under_way = Shard.objects.filter(evaluation=OuterRef("pk")).exclude(status__in=ENDED)
    for evaluation_id in going.exclude(Exists(under_way)).values_list("id", flat=True):
        settle_whole(evaluation_id)


def send(shard_id: int) -> None:
    """Ask the workers to look at a shard. Lost or late messages do no harm: `reap` sends again."""
    wake("evaluations.run_shard", shard_id)


def settle_whole(evaluation_id: UUID) -> None:
    """Make the evaluation's status what its shards' come to."""
    with transaction.atomic():
        evaluation = Evaluation.objects.select_for_update().get(id=evaluation_id)
        shards = list(evaluation.shards.all())
        status = whole_status([EvaluationStatus(shard.status) for shard in shards])
        said = dict.fromkeys(s.reason for s in shards if s.reason and s.status == status)
        evaluation.status, evaluation.reason = status, " ".join(said)
        if status not in ENDED:
            evaluation.finished_at = None
        elif evaluation.finished_at is None:
            evaluation.finished_at = timezone.now()
            _announce_end(evaluation)
        evaluation.save(update_fields=["status", "reason", "finished_at"])


def _announce_end(evaluation: Evaluation) -> None:
    told = ("name", "status", "reason")
    data = {"id": str(evaluation.id), **{name: getattr(evaluation, name) for name in told}}
    data["model"] = evaluation.model_name
    data["url"] = settings.PUBLIC_URL + reverse("evaluations:evaluation", args=[evaluation.id])
    announce(evaluation.owner_id, f"evaluation.{evaluation.status}", data)


def whole_status(shards: list[EvaluationStatus]) -> EvaluationStatus:
    """What the shards' statuses come to. While any is held or waits, it goes on."""
    found = set(shards)
    if EvaluationStatus.STOPPING in found:
        return EvaluationStatus.STOPPING
    if EvaluationStatus.RUNNING in found:
        return EvaluationStatus.RUNNING
    if EvaluationStatus.QUEUED in found:
        waits_alone = found == {EvaluationStatus.QUEUED}
        return EvaluationStatus.QUEUED if waits_alone else EvaluationStatus.RUNNING
    for status in (EvaluationStatus.FAILED, EvaluationStatus.STOPPED):
        if status in found:
            return status
    return EvaluationStatus.FINISHED


class QueueWorkers:
    """The workers online for the queue and what each is at, asked for once, for however many that wait."""

    @cached_property
    def online(self) -> list[Worker]:
        return placement.workers_of(QUEUE)

    @cached_property
    def uses(self) -> dict[str, str]:
        """`engine_use` by name."""
        return {worker.name: engine_use(worker) for worker in self.online}


def waiting_for(evaluation: Evaluation, workers: QueueWorkers | None = None) -> str:
    """One sentence on what a queued evaluation waits for; empty when it is not queued."""
    if evaluation.status != EvaluationStatus.QUEUED:
        return ""
    workers = workers or QueueWorkers()
    if not workers.online:
        start = f"celery -A webapp worker --queues {QUEUE}"
        return f"Waits for a worker: none is online for the queue {QUEUE}; start one: {start}."
    obstacles = {worker.name: obstacle(evaluation, worker) for worker in workers.online}
    if all(obstacles.values()):
        name, why = next(iter(obstacles.items()))
        return f"Waits for a worker that can do it: {name} cannot, {why}."
    if starts_engine(evaluation):
        uses = [use for name, use in workers.uses.items() if not obstacles[name]]
        if all(uses):
            return f"Waits for an engine: that of {uses[0]}."
    return "Waits until a worker is free."


def starts_engine(evaluation: Evaluation) -> bool:
    # also of a configuration that another version's worker holds
    return not evaluation.config["model"].get("endpoint")


def engine_use(worker: Worker) -> str:
    """What the worker's machine has a model loaded for; empty when it is free for one. It has room for one at a time."""
    # a run that trains in pods loads nothing here
    runs = Run.objects.none() if worker.cluster_nodes else Run.objects.live().filter(worker=worker)
    for run in runs:
        return f"{worker.name} is at work for the run {run.name}"
    held = Shard.objects.filter(worker=worker, status__in=HELD).select_related("evaluation")
    for shard in held:
        if starts_engine(shard.evaluation):
            return f"{worker.name} is at work for the evaluation {shard.evaluation.name}"
    judged = worker.assessments.filter(status__in=HELD, verifier__endpoint="")
    for assessment in judged.select_related("verifier"):
        return f"{worker.name} is at work for the verifier {assessment.verifier.name}"
    return ""


def obstacle(evaluation: Evaluation, worker: Worker) -> str:
    """Why this worker cannot do a shard; empty when it can. With an endpoint it needs neither the model nor its hardware."""
    try:
        config = evaluation.parsed
    except ConfigError as error:
        return f"its configuration is none of this version's: {error}"
    missing = placement.no_backend(config.sandbox, worker)
    if config.model.endpoint:
        return missing
    return (
        placement.shortfall(config.hardware, worker)
        or missing
        or _checkpoint_elsewhere(evaluation, worker)
    )


def _checkpoint_elsewhere(evaluation: Evaluation, worker: Worker) -> str:
    run = evaluation.trained_by
    # a folder that this process may not enter is as good as none
    if run and run.host not in ("", worker.host) and not os.access(run.run_dir, os.X_OK):
        return f"its checkpoint is on {run.host}"
    return ""


def _send_after_commit(evaluation: Evaluation) -> None:
    def send_all() -> None:
        queued = evaluation.shards.filter(status=EvaluationStatus.QUEUED)
        for shard_id in queued.values_list("id", flat=True):
            send(shard_id)

    transaction.on_commit(send_all)


def _released(status: EvaluationStatus, reason: str) -> dict[str, Any]:
    return {"status": status, "reason": reason, "lease": None, "lease_expires_at": None}


def _change(shard_id: int, condition: dict[str, Any], new: dict[str, Any]) -> bool:
    with transaction.atomic():
        changed = Shard.objects.filter(id=shard_id, **condition).update(**new) == 1
        if changed and "status" in new:
            shard = Shard.objects.get(id=shard_id)
            logger.info("shard %s: %s. %s", shard, new["status"].value, shard.reason)
            settle_whole(shard.evaluation_id)
    return changed
