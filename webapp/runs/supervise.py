"""One run from claim to end: start or adopt its process, store its events, stop it, settle it.

Safe to run twice: the lease decides. The trainer goes on when this process or the database dies;
the next supervisor adopts it. A trainer that is killed is started again and resumes from its
checkpoint.
"""

import json
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import tomli_w
from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, close_old_connections
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential
from tenacity.stop import stop_when_event_set

from trainer.config import CONFIG_FILE, parse_config
from webapp.runs import lifecycle, processes
from webapp.runs.ingest import IngestError, StorageAway, ingest
from webapp.runs.models import Event, Run, RunStatus, Worker
from webapp.tasksets import shipping

logger = logging.getLogger(__name__)

POLL_S = 0.3
RENEW_S = 5.0
CANNOT_BE_STORED = "Events cannot be stored"
MAX_CRASHES = 3
"""In a row, without a step between them."""
RUN_FILE = "run.json"


class LeaseLost(Exception):
    """Another supervisor has the run: let go of it without touching its process."""


@dataclass(kw_only=True)
class Supervision:
    """What one supervisor remembers between two looks at a run."""

    run_id: UUID
    run_dir: Path
    lease: UUID
    shutdown: threading.Event
    trainer: processes.Trainer | None = None
    seen_before: int = 0
    """last_seq when the present process was started."""
    crashes: int = 0
    step_at_crash: int = -1
    renewed_at: float = 0.0
    stop_asked_at: float | None = None
    unreadable: str = ""
    """Why the event file cannot be stored."""
    storage_away: bool = False
    """That is for want of the storage of large files, and ends with it."""


def supervise(run_id: UUID, worker: Worker, shutdown: threading.Event) -> None:
    """Hold the run until it ends, its lease is lost or `shutdown` is set."""
    claim = lifecycle.claim(run_id, worker)
    if claim is None:
        return
    run = Run.objects.get(id=run_id)
    logger.info("run %s: taken by %s", run_id, worker.name)
    try:
        run_dir = prepare(run, worker)
    except DatabaseError:
        raise
    except Exception as error:
        # of one whose process may be at work, the next look decides
        if not claim.fresh:
            raise
        logger.exception("run %s: no folder", run_id)
        reason = f"Its folder cannot be made: {type(error).__name__}: {error}"
        lifecycle.settle(run_id, claim.lease, RunStatus.FAILED, reason)
        return
    held = Supervision(run_id=run_id, run_dir=run_dir, lease=claim.lease, shutdown=shutdown)
    try:
        enter(held, run, fresh=claim.fresh)
        while held.trainer:
            watch(held)
            if not held.trainer.alive:
                conclude(held)
    except LeaseLost:
        logger.warning("run %s: another worker took it over", run_id)


def prepare(run: Run, worker: Worker) -> Path:
    """The run's folder with its configuration: made once, and the same ever after."""
    settings.RUNS_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    run_dir = Path(run.run_dir) if run.run_dir else settings.RUNS_DIR / str(run.id)
    run_dir.mkdir(mode=0o700, exist_ok=True)
    config = parse_config(run.config).model_dump(mode="json", exclude_none=True)
    config["tasks"]["taskset"] = shipping.source_here(config["tasks"]["taskset"])
    (run_dir / CONFIG_FILE).write_text(tomli_w.dumps(config))
    described = {"run": str(run.id), "name": run.name, "created_at": run.created_at.isoformat()}
    described["owner"] = run.owner.get_username() if run.owner else ""
    (run_dir / RUN_FILE).write_text(json.dumps(described, indent=1))
    Run.objects.filter(id=run.id).update(run_dir=str(run_dir), host=worker.host)
    return run_dir


def enter(held: Supervision, run: Run, *, fresh: bool) -> None:
    """Adopt the process that is at work, or settle what has ended, or start one."""
    held.trainer = processes.adopt(held.run_id, held.run_dir)
    if held.trainer:
        logger.info("run %s: adopted its process", held.run_id)
    elif fresh:
        begin(held)
    else:
        held.trainer = processes.Trainer(held.run_id, held.run_dir, None)


def begin(held: Supervision) -> None:
    """Start the process; it resumes by itself where there is a checkpoint."""
    store_events(held)
    held.seen_before = Run.objects.get(id=held.run_id).last_seq
    held.stop_asked_at = None
    try:
        held.trainer = processes.start(held.run_id, held.run_dir)
        logger.info("run %s: started its process", held.run_id)
    except BlockingIOError as error:  # another supervisor's, who came first
        raise LeaseLost from error
    except OSError as error:
        reason = f"Its process cannot be started: {error}"
        lifecycle.settle(held.run_id, held.lease, RunStatus.FAILED, reason)


def watch(held: Supervision) -> None:
    """Until the process has ended and what it said is stored: store events, keep the lease, see stop requests."""
    assert held.trainer
    while held.trainer.alive:
        look(held)
        time.sleep(POLL_S)
    look(held)
    while held.storage_away and not held.shutdown.wait(RENEW_S):
        look(held)


def look(held: Supervision) -> None:
    """One look, again and again while the database is away. Training goes on meanwhile."""
    unavailable = retry_if_exception_type((OperationalError, InterfaceError))
    for attempt in Retrying(
        retry=unavailable,
        wait=wait_exponential(multiplier=0.5, max=10),
        stop=stop_when_event_set(held.shutdown),
        before_sleep=reconnect,
        reraise=True,
    ):
        with attempt:
            keep_lease(held)
            store_events(held)
            obey(held)


def reconnect(state: RetryCallState) -> None:
    """Before the next try: let go of a connection that broke."""
    error = state.outcome.exception() if state.outcome else None
    logger.warning("database away, tried again: %s", error)
    close_old_connections()


def keep_lease(held: Supervision) -> None:
    if time.monotonic() - held.renewed_at < RENEW_S:
        return
    if not lifecycle.renew(held.run_id, held.lease):
        raise LeaseLost
    held.renewed_at = time.monotonic()


def store_events(held: Supervision) -> None:
    """Once the file makes no sense, training goes on, the run says so, and it is tried again."""
    try:
        ingest(held.run_id, held.run_dir, keep=lambda: keep_lease(held))
        if held.unreadable:
            ours = Run.objects.filter(id=held.run_id, reason__startswith=CANNOT_BE_STORED)
            ours.update(reason="")
        held.unreadable, held.storage_away = "", False
    except (IngestError, StorageAway) as error:
        held.storage_away = isinstance(error, StorageAway)
        if not held.unreadable:
            logger.exception("run %s: events cannot be stored", held.run_id)
            reason = f"{CANNOT_BE_STORED}: {error}"
            # who stopped it stays to be read
            going = Run.objects.filter(id=held.run_id).exclude(status=RunStatus.STOPPING)
            going.update(reason=reason)
        held.unreadable = str(error)


def obey(held: Supervision) -> None:
    """Follow the row: running once events come, stopping when asked to, killed when too slow."""
    assert held.trainer
    run = Run.objects.only("status", "last_seq").get(id=held.run_id)
    if run.status == RunStatus.STARTING and run.last_seq > held.seen_before:
        lifecycle.mark_running(held.run_id, held.lease)
    if run.status != RunStatus.STOPPING and not held.shutdown.is_set():
        return
    if held.stop_asked_at is None:
        held.stop_asked_at = time.monotonic()
        held.trainer.stop()
    elif time.monotonic() - held.stop_asked_at > settings.STOP_GRACE_S:
        logger.warning("run %s: killed, did not stop in %d s", held.run_id, settings.STOP_GRACE_S)
        held.trainer.kill()


def conclude(held: Supervision) -> None:
    """The process has ended and its events are stored: end the run, or start the process again."""
    trainer, held.trainer = held.trainer, None
    assert trainer
    trainer.sweep()
    run = Run.objects.get(id=held.run_id)
    if held.shutdown.is_set() and run.status != RunStatus.STOPPING and not has_finished(held, run):
        reason = "Its worker was shut down; goes on from its checkpoint when one is back."
        lifecycle.requeue(held.run_id, held.lease, reason)
    elif (last := final_event(held, run)) is not None and not was_cut_short(last, trainer, run):
        status, reason = RunStatus(last.payload["status"]), last.payload["reason"]
        if run.status == RunStatus.STOPPING:
            reason = run.reason
        lifecycle.settle(held.run_id, held.lease, status, reason, last.time)
    elif run.status == RunStatus.STOPPING:
        reason = f"{run.reason} Its process was killed: goes on from its last checkpoint."
        lifecycle.settle(held.run_id, held.lease, RunStatus.STOPPED, reason)
    elif why := reason_to_give_up(held, trainer, run):
        lifecycle.settle(held.run_id, held.lease, RunStatus.FAILED, why)
    else:
        logger.warning("run %s: process killed (%s), resumes", held.run_id, trainer.returncode)
        begin(held)


def final_event(held: Supervision, run: Run) -> Event | None:
    """`finished`, when it is the last that the present process said about itself."""
    told = run.events.filter(type__in=("started", "resumed", "finished"), seq__gt=held.seen_before)
    last = told.order_by("seq").last()
    return last if last and last.type == "finished" else None


def was_cut_short(last: Event, trainer: processes.Trainer, run: Run) -> bool:
    """Whether it stopped though nobody here asked for it, and its process says by its end that it is to go on."""
    killed = trainer.returncode is not None and trainer.returncode < 0
    asked = run.status == RunStatus.STOPPING
    return killed and not asked and bool(last.payload["status"] == "stopped")


def has_finished(held: Supervision, run: Run) -> bool:
    """Whether it ended by itself, not because it was told to stop."""
    last = final_event(held, run)
    return last is not None and last.payload["status"] != "stopped"


def reason_to_give_up(held: Supervision, trainer: processes.Trainer, run: Run) -> str:
    """A process that was killed is started again; one that refuses, or dies in a loop, is not."""
    if held.unreadable:
        return f"Its events cannot be stored: {held.unreadable}"
    if trainer.returncode is not None and trainer.returncode >= 0:
        words = processes.last_words(held.run_dir)
        return f"Its process ended with exit code {trainer.returncode}: {words}"
    held.crashes = held.crashes + 1 if run.current_step == held.step_at_crash else 1
    held.step_at_crash = run.current_step
    if held.crashes >= MAX_CRASHES:
        return f"Its process was killed {held.crashes} times at step {run.current_step}."
    return ""
