"""Runs and what their event files say: rows that can be rebuilt from the files at any time.

Many-row vocabulary lives on the QuerySets, one-instance logic on the models. Status changes are in
`lifecycle`, the reading of events in `ingest`.
"""

import uuid
from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from trainer.config import TrainConfig, parse_config
from trainer.recipes import merge
from webapp.runs.event_rows import EventRow


class RunStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    STARTING = "starting", "Starting"
    RUNNING = "running", "Running"
    STOPPING = "stopping", "Stopping"
    STOPPED = "stopped", "Stopped"
    FINISHED = "finished", "Finished"
    FAILED = "failed", "Failed"


LIVE_STATUSES = (RunStatus.STARTING, RunStatus.RUNNING, RunStatus.STOPPING)
"""A worker holds the run and its lease."""
ENDED_STATUSES = (RunStatus.STOPPED, RunStatus.FINISHED, RunStatus.FAILED)


HEARTBEAT_TIMEOUT = timedelta(seconds=20)
"""A worker that was silent for longer is offline."""


class WorkerQuerySet(models.QuerySet["Worker"]):
    def online(self) -> "WorkerQuerySet":
        return self.filter(stopped_at=None, heartbeat_at__gte=timezone.now() - HEARTBEAT_TIMEOUT)


class Worker(models.Model):
    """A Celery worker as it reported itself."""

    name = models.CharField(max_length=200, unique=True)
    """Celery's node name, `train@host`."""
    host = models.CharField(max_length=200)
    queues = models.JSONField(default=list)
    cores = models.PositiveIntegerField(default=0)
    memory_mib = models.PositiveIntegerField(default=0)
    gpus = models.JSONField(default=list)
    """One {name, memory_mib} a GPU."""
    sandbox_backends = models.JSONField(default=list)
    cluster_nodes = models.PositiveIntegerField(default=0)
    """Nodes of a cluster that one of its runs may have; 0: it trains on this machine."""
    started_at = models.DateTimeField(default=timezone.now)
    heartbeat_at = models.DateTimeField(default=timezone.now)
    stopped_at = models.DateTimeField(null=True, blank=True)
    """When it said goodbye; None while it works, and after a crash."""

    objects: ClassVar[Any] = WorkerQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    @property
    def is_online(self) -> bool:
        return self.stopped_at is None and self.heartbeat_at >= timezone.now() - HEARTBEAT_TIMEOUT


class RunQuerySet(models.QuerySet["Run"]):
    def live(self) -> "RunQuerySet":
        return self.filter(status__in=LIVE_STATUSES)

    def ended(self) -> "RunQuerySet":
        return self.filter(status__in=ENDED_STATUSES)


class Run(models.Model):
    """One training."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=120)
    recipe = models.CharField(max_length=80)
    config = models.JSONField()
    """The whole TrainConfig as data."""
    status = models.CharField(
        max_length=12, choices=RunStatus, default=RunStatus.QUEUED, db_index=True
    )
    reason = models.TextField(blank=True)
    """Why it is where it is: one sentence for people."""
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="runs",
    )
    cloned_from = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="clones"
    )
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    """How many times a process was started for it."""
    num_steps = models.PositiveIntegerField()
    current_step = models.PositiveIntegerField(default=0)
    """The last step that ended."""
    alarms = models.JSONField(default=dict)
    """rule -> the alarm that stands: {step, sentence, remedy}."""
    resting = models.JSONField(default=dict)
    """task -> the solve rate of its last visits, of the tasks that the curriculum leaves out now."""
    # Held by the supervising worker
    worker = models.ForeignKey(
        Worker, null=True, blank=True, on_delete=models.SET_NULL, related_name="runs"
    )
    lease = models.UUIDField(null=True, blank=True, editable=False)
    """Made by the claim; whoever holds another one has lost the run."""
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    host = models.CharField(max_length=200, blank=True)
    """Where the run's folder is: a run that has started goes on there."""
    queued_at = models.DateTimeField(default=timezone.now)
    # Ingestion, moved in the same transaction as the rows
    run_dir = models.CharField(max_length=500, blank=True)
    """On the worker's disk; the web server never opens it."""
    ingest_offset = models.BigIntegerField(default=0)
    last_seq = models.BigIntegerField(default=0)

    objects: ClassVar[Any] = RunQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_live(self) -> bool:
        return self.status in LIVE_STATUSES

    @property
    def is_ended(self) -> bool:
        return self.status in ENDED_STATUSES

    def config_with(self, changes: dict[str, Any]) -> TrainConfig:
        """Its configuration with nested `changes` laid over it. Raises ConfigError."""
        return parse_config(merge(self.config, changes))


class Event(EventRow):
    """One line of the run's event file."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events")

    class Meta(EventRow.Meta):
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "seq"], name="event_once")]
        indexes: ClassVar = [models.Index(fields=["run", "type", "seq"])]

    def __str__(self) -> str:
        return f"{self.run_id} #{self.seq} {self.type}"


class Step(models.Model):
    """One step's metrics. A row that a resumed attempt did over stays, marked superseded."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="steps")
    step = models.PositiveIntegerField()
    attempt = models.PositiveIntegerField(default=1)
    superseded = models.BooleanField(default=False)
    time = models.DateTimeField()
    updated = models.BooleanField()
    policy_version = models.PositiveIntegerField()
    seconds = models.FloatField()
    metrics = models.JSONField()
    """name -> [numerator, denominator]."""
    phases = models.JSONField(default=dict)
    """phase -> seconds."""

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "step", "attempt"], name="step_once")
        ]
        ordering: ClassVar = ["step", "attempt"]

    def __str__(self) -> str:
        return f"{self.run_id} step {self.step}"

    def metric(self, name: str) -> float | None:
        """numerator / denominator; None when it was not measured or counts nothing."""
        pair = self.metrics.get(name)
        return pair[0] / pair[1] if pair and pair[1] else None


class RunEvaluation(models.Model):
    """A held-out evaluation made within a run."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="evaluations")
    step = models.PositiveIntegerField()
    attempt = models.PositiveIntegerField(default=1)
    superseded = models.BooleanField(default=False)
    time = models.DateTimeField()
    policy_version = models.PositiveIntegerField()
    num_tasks = models.PositiveIntegerField()
    group_size = models.PositiveIntegerField()
    mean_reward = models.FloatField()
    scores = models.JSONField()
    """task -> [reward of each rollout]."""
    seconds = models.FloatField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "step", "attempt"], name="run_evaluation_once")
        ]
        ordering: ClassVar = ["step"]

    def __str__(self) -> str:
        return f"{self.run_id} evaluation at step {self.step}"
