"""One assessment from claim to end: bring the evaluation's folder here, start its process, store what it tells, settle it.

The process is `python -m trainer.verify`, `trainer.run_tests` or `trainer.regrade`. What a verifier says is stored as soon as
it is told and never asked for again; a regrading that is begun again grades all anew.
"""

import logging
import socket
import sys
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

from django.conf import settings

from trainer.stop import STOPPED
from webapp.assessments import lifecycle, results
from webapp.assessments.models import Assessment
from webapp.assessments.selection import work_out_numbers
from webapp.evaluations.ingest import ingest, restore_patches
from webapp.evaluations.models import Shard, ShardEvent
from webapp.evaluations.supervise import GRACE_S, prepare
from webapp.leased_jobs import JobStatus
from webapp.runs import processes, watched
from webapp.runs.event_files import IngestError
from webapp.runs.models import Worker
from webapp.tasksets import shipping
from webapp.verifiers.models import VerifierKind

logger = logging.getLogger(__name__)

FOLDER = "assessments"
PROGRAMS = {VerifierKind.JUDGE: "trainer.verify", VerifierKind.TESTS: "trainer.run_tests"}
JOBS = 8
"""Questions that an endpoint is asked at a time."""


def supervise(assessment_id: UUID, worker: Worker | None, shutdown: threading.Event) -> None:
    """Hold the assessment until it ends, its lease is lost or `shutdown` is set. Safe to run twice."""
    token = lifecycle.claim(assessment_id, worker)
    if token is None:
        return
    rows = Assessment.objects.select_related("evaluation", "verifier")
    work = Work(rows.get(id=assessment_id))
    renew = partial(Assessment.objects.renew, assessment_id, token)
    with watched.HeldLease(token, renew) as lease:
        # a worker that died may have left a process at work here
        processes.sweep(assessment_id)
        try:
            work.bring_folder()
            code, kept = _run(work, lease, shutdown)
        except (IngestError, OSError) as error:
            logger.exception("assessment %s: failed", work.assessment)
            Assessment.objects.settle(assessment_id, token, JobStatus.FAILED, str(error))
            return
        if kept:
            _conclude(work, token, code, shutdown)
        else:
            logger.warning("assessment %s: another worker took it over", work.assessment)


@dataclass
class Work:
    """What is done, and where on this machine."""

    assessment: Assessment

    def __post_init__(self) -> None:
        self.evaluation = self.assessment.evaluation
        self.shards: list[Shard] = list(self.evaluation.shards.all())
        self.root: Path = settings.EVALUATIONS_DIR / str(self.evaluation.id)
        self.shard_folders: dict[int, Path] = {}

    @property
    def output_folder(self) -> Path:
        return self.root / FOLDER / str(self.assessment.id)

    def bring_folder(self) -> None:
        """Make the evaluation's folder on this machine as whole as the process needs it. Raises OSError."""
        for shard in self.shards:
            self.shard_folders[shard.id] = folder = prepare(shard)
            restore_patches(shard, folder)
        if self.assessment.verifier:
            results.write(self.evaluation, self.assessment.verifier, self.root)
        self.output_folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        taskset = shipping.source_here(self.evaluation.parsed.tasks.taskset)
        verifier = self.assessment.verifier
        program = PROGRAMS[VerifierKind(verifier.kind)] if verifier else "trainer.regrade"
        command = [sys.executable, "-m", program, str(self.root), "--taskset", taskset]
        if verifier:
            command += ["--name", verifier.name, f"--model={verifier.path}"]
            command += [f"--endpoint={verifier.endpoint}"]
        if verifier and verifier.kind == VerifierKind.JUDGE:
            # a model in the process uses every core by itself
            jobs = JOBS if verifier.endpoint else 1
            command += ["--max-tokens", str(verifier.max_tokens), "--jobs", str(jobs)]
        return command

    def look(self) -> None:
        """Store what is new, and how far it is. Raises IngestError, StorageAway."""
        # a stop is seen while the storage is away, too
        self.assessment.refresh_from_db(fields=["status"])
        if verifier := self.assessment.verifier:
            num_done = results.store(self.evaluation, verifier, self.root)
        else:
            for shard_id, folder in self.shard_folders.items():
                ingest(shard_id, folder)
            num_done = self._num_regraded()
        Assessment.objects.filter(id=self.assessment.id).update(num_done=num_done)

    def _num_regraded(self) -> int:
        told = ShardEvent.objects.filter(shard__in=self.shards, type="regraded")
        return told.filter(time__gte=self.assessment.started_at).count()


def _run(work: Work, lease: watched.HeldLease, shutdown: threading.Event) -> tuple[int, bool]:
    """The process from start to end: its exit code, and whether the lease was kept. Raises IngestError, OSError."""
    assessment = work.assessment
    logger.info("assessment %s: begun on %s", assessment, socket.gethostname())
    process = watched.start(work.command(), work.output_folder, assessment.id)
    try:
        kept = watched.watch(
            process,
            look=work.look,
            lease=lease,
            shutdown=shutdown,
            stop_wanted=lambda: assessment.status == JobStatus.STOPPING or shutdown.is_set(),
            grace_s=GRACE_S,
        )
    finally:
        watched.end(process, assessment.id, lease)
    return process.returncode, kept


def _conclude(work: Work, lease: UUID, code: int, shutdown: threading.Event) -> None:
    """Settle it by its exit code, or give it back when the worker ends."""
    assessment_id, words = work.assessment.id, processes.last_words(work.output_folder)
    reason = "Its worker was shut down; goes on where it was."
    if shutdown.is_set() and code and Assessment.objects.requeue(assessment_id, lease, reason):
        return
    work_out_numbers(work.evaluation)
    status = {0: JobStatus.FINISHED, STOPPED: JobStatus.STOPPED}.get(code, JobStatus.FAILED)
    if status == JobStatus.FAILED:
        words = f"Its process ended with exit code {code}: {words}"
    Assessment.objects.settle(assessment_id, lease, status, words)
