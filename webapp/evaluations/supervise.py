"""One shard from claim to end: start `python -m trainer.evaluate`, store its events, stop it, settle it.

The process keeps what it did in the shard's folder, so a shard that is begun again does what has no score yet. A process that
is killed is started again, unless it dies in a loop.
"""

import logging
import socket
import sys
import threading
from pathlib import Path
from uuid import UUID, uuid5

import tomli_w
from django.conf import settings

from trainer.evaluations.config import EVAL_FILE
from webapp.assessments.selection import work_out_numbers
from webapp.evaluations import lifecycle
from webapp.evaluations.ingest import ingest, restore
from webapp.evaluations.kept import Renewal
from webapp.evaluations.models import Evaluation, EvaluationStatus, Shard, ShardEvent
from webapp.evaluations.overview import SUMMARY
from webapp.runs import processes, watched
from webapp.runs.event_files import IngestError
from webapp.runs.models import Worker
from webapp.tasksets import shipping

logger = logging.getLogger(__name__)

GRACE_S = 25.0
"""A stopped process gives up its rollouts within seconds; after this it is killed."""
MAX_CRASHES = 3
"""In a row, without an event between them."""
COMMAND = [sys.executable, "-m", "trainer.evaluate"]


def supervise_shard(shard_id: int, worker: Worker | None, shutdown: threading.Event) -> None:
    """Hold the shard until it ends, its lease is lost or `shutdown` is set. Safe to run twice."""
    token = lifecycle.claim(shard_id, worker)
    if token is None:
        return
    shard = Shard.objects.select_related("evaluation").get(id=shard_id)
    with watched.HeldLease(token, lambda: lifecycle.renew(shard_id, token)) as lease:
        try:
            if not hold(shard, lease, shutdown):
                logger.warning("shard %s: another worker took it over", shard)
        except IngestError as error:
            logger.exception("shard %s: events cannot be stored", shard)
            reason = f"Its events cannot be stored: {error}"
            lifecycle.settle(shard_id, token, EvaluationStatus.FAILED, reason)


def hold(shard: Shard, lease: watched.HeldLease, shutdown: threading.Event) -> bool:
    """Process after process until the shard is settled or given back. False when the lease was lost. Raises IngestError."""
    folder = prepare(shard)
    # what an earlier process left to be stored says nothing of the next one's end
    if not watched.stored(lambda: store(shard, folder, lease), lease, shutdown):
        return False
    crashes = 0
    while True:
        shard.refresh_from_db()
        before = shard.last_seq
        code, kept = run_once(shard, folder, lease, shutdown)
        if not kept:
            return False
        shard.refresh_from_db()
        crashes = crashes + 1 if shard.last_seq == before else 1
        killed = code < 0 and shard.status != EvaluationStatus.STOPPING and not shutdown.is_set()
        if not killed or crashes >= MAX_CRASHES:
            conclude(shard, folder, lease.id, shutdown, code=code, before=before)
            return True
        logger.warning("shard %s: process killed (%d), goes on", shard, code)


def prepare(shard: Shard) -> Path:
    """The shard's own folder, with the configuration and what is known of it: no other machine need have it."""
    evaluation = shard.evaluation
    root: Path = settings.EVALUATIONS_DIR / str(evaluation.id)
    folder = root if shard.total == 1 else root / "shards" / f"{shard.number}-of-{shard.total}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = evaluation.parsed.model_dump(mode="json", exclude_none=True)
    config["tasks"]["taskset"] = taskset = shipping.source_here(config["tasks"]["taskset"])
    (root / EVAL_FILE).write_text(tomli_w.dumps(config))
    # a worker that died may have left a process at work here
    processes.sweep(mark_of(shard))
    restore(shard, folder, socket.gethostname(), taskset)
    return folder


def mark_of(shard: Shard) -> UUID:
    """What the environment of its processes says."""
    return uuid5(shard.evaluation_id, str(shard.number))


def store(shard: Shard, folder: Path, lease: watched.HeldLease) -> None:
    """What is new in the file, while the lease is held. Raises IngestError, StorageAway."""
    ingest(shard.id, folder, lease=lease.id)


def run_once(
    shard: Shard, folder: Path, lease: watched.HeldLease, shutdown: threading.Event
) -> tuple[int, bool]:
    """One process from start to end: its exit code, and whether the lease was kept. Raises IngestError."""
    evaluation = shard.evaluation
    command = [*COMMAND, str(settings.EVALUATIONS_DIR / str(evaluation.id))]
    command += ["--evaluation-id", str(evaluation.id)]
    if shard.total > 1:
        command += ["--shard", f"{shard.number}/{shard.total}"]
    mark = mark_of(shard)
    process = watched.start(command, folder, mark)
    renew_numbers = Renewal(lambda: SUMMARY.bring_up_to_date(evaluation_of(shard)))

    def look() -> None:
        # a stop is seen while the storage is away, too
        shard.refresh_from_db(fields=["status"])
        store(shard, folder, lease)
        renew_numbers()

    try:
        kept = watched.watch(
            process,
            look=look,
            lease=lease,
            shutdown=shutdown,
            stop_wanted=lambda: shard.status == EvaluationStatus.STOPPING or shutdown.is_set(),
            grace_s=GRACE_S,
        )
    finally:
        watched.end(process, mark, lease)
    return process.returncode, kept


def evaluation_of(shard: Shard) -> Evaluation:
    """As it is now, with all its shards."""
    return Evaluation.objects.prefetch_related("shards").get(id=shard.evaluation_id)


def conclude(
    shard: Shard,
    folder: Path,
    lease: UUID,
    shutdown: threading.Event,
    *,
    code: int,
    before: int,
) -> None:
    """Settle the shard by the last event of its process, one after `before`, or give it back when the worker ends."""
    work_out_numbers(evaluation_of(shard))
    last = ShardEvent.objects.filter(shard=shard, seq__gt=before).order_by("seq").last()
    ended = last if last is not None and last.type == "finished" else None
    cut_short = ended is None or ended.payload["status"] == "stopped"
    reason = "Its worker was shut down; goes on where it was."
    if shutdown.is_set() and cut_short and lifecycle.requeue(shard.id, lease, reason):
        return
    if ended is None or code == 2:
        words = processes.last_words(folder)
        reason = f"Its process ended with exit code {code}: {words}"
        lifecycle.settle(shard.id, lease, EvaluationStatus.FAILED, reason)
    else:
        status = EvaluationStatus(ended.payload["status"])
        lifecycle.settle(shard.id, lease, status, ended.payload["reason"])
