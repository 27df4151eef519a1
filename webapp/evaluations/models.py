"""Evaluations, their shards and what the shards' event files say.

A shard is what one worker holds: a share of the tasks with an events file of its own. Status changes are in `lifecycle`,
the reading of events in `ingest`.
"""

import uuid
from functools import cached_property
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone

from trainer.evaluations.config import EvalConfig, parse_evaluation
from webapp.rollouts.models import Rollout, RolloutQuerySet
from webapp.runs.event_rows import EventRow
from webapp.runs.models import Run, Worker


class EvaluationStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    STOPPING = "stopping", "Stopping"
    STOPPED = "stopped", "Stopped"
    FINISHED = "finished", "Finished"
    FAILED = "failed", "Failed"


HELD = (EvaluationStatus.RUNNING, EvaluationStatus.STOPPING)
"""A worker holds the shard and its lease."""
ENDED = (EvaluationStatus.STOPPED, EvaluationStatus.FINISHED, EvaluationStatus.FAILED)


class ContextSweep(models.Model):
    """Evaluations that were launched together and differ in their context limit alone."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=120)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("evaluations:sweep", args=[self.pk])


class Evaluation(models.Model):
    """k rollouts of every task of a taskset, by one model."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=120)
    config = models.JSONField()
    """The whole EvalConfig as data."""
    status = models.CharField(
        max_length=12, choices=EvaluationStatus, default=EvaluationStatus.QUEUED, db_index=True
    )
    """What its shards' come to."""
    reason = models.TextField(blank=True)
    """Why it is where it is: one sentence for people."""
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="evaluations",
    )
    sweep = models.ForeignKey(
        ContextSweep, null=True, blank=True, on_delete=models.SET_NULL, related_name="evaluations"
    )
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("evaluations:evaluation", args=[self.pk])

    @property
    def is_live(self) -> bool:
        return self.status in HELD

    @property
    def is_ended(self) -> bool:
        return self.status in ENDED

    @property
    def last_seq(self) -> int:
        """Of all shards together: grows with every event."""
        return sum(shard.last_seq for shard in self.shards.all())

    @property
    def parsed(self) -> EvalConfig:
        return parse_evaluation(self.config)

    @property
    def model_name(self) -> str:
        return str(self.config["model"]["path"])

    @cached_property
    def trained_by(self) -> Run | None:
        """The run in whose folder its model is."""
        # as a worker reads it, whose processes start in the checkout
        path = settings.BASE_DIR / self.model_name
        folders = [str(folder) for folder in (path, *path.parents)]
        return Run.objects.filter(run_dir__in=folders).first()

    @property
    def context_limit(self) -> int:
        """Tokens after the prompt."""
        return int(self.config["rollout"]["max_response_tokens"])

    @property
    def group_size(self) -> int:
        return int(self.config["rollout"]["group_size"])

    def counted_rollouts(self) -> RolloutQuerySet:
        """Those that ended and stand for their place."""
        rows: RolloutQuerySet = Rollout.objects.filter(evaluation=self, superseded=False)
        return rows.exclude(finished_at=None)


class KeptNumbers(models.Model):
    """What its rollouts come to, as `webapp.evaluations.kept` keeps it."""

    evaluation = models.ForeignKey(Evaluation, on_delete=models.CASCADE, related_name="kept")
    name = models.CharField(max_length=20)
    state = models.CharField(max_length=100)
    """Of the evaluation, when they were worked out."""
    numbers = models.TextField()
    """JSON. As text, because the order of names is a part of it."""

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["evaluation", "name"], name="numbers_once")
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.evaluation_id}"


class Shard(models.Model):
    """One share of an evaluation."""

    evaluation = models.ForeignKey(Evaluation, on_delete=models.CASCADE, related_name="shards")
    number = models.PositiveIntegerField()
    """From 1."""
    total = models.PositiveIntegerField()
    status = models.CharField(
        max_length=12, choices=EvaluationStatus, default=EvaluationStatus.QUEUED
    )
    reason = models.TextField(blank=True)
    tasks = models.JSONField(default=list)
    """task_id of each of its tasks, once it has begun."""
    # Held by the supervising worker
    worker = models.ForeignKey(Worker, null=True, blank=True, on_delete=models.SET_NULL)
    host = models.CharField(max_length=200, blank=True)
    """The machine whose disk has the shard's folder as it is stored here."""
    lease = models.UUIDField(null=True, blank=True, editable=False)
    """Made by the claim; whoever holds another one has lost the shard."""
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    # Ingestion, moved in the same transaction as the rows
    ingest_offset = models.BigIntegerField(default=0)
    last_seq = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["evaluation", "number"], name="shard_once")
        ]
        ordering: ClassVar = ["number"]

    def __str__(self) -> str:
        return f"{self.number}/{self.total} of {self.evaluation_id}"


class ShardEvent(EventRow):
    """One line of a shard's event file."""

    shard = models.ForeignKey(Shard, on_delete=models.CASCADE, related_name="events")

    class Meta(EventRow.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["shard", "seq"], name="shard_event_once")
        ]
        indexes: ClassVar = [models.Index(fields=["shard", "type", "seq"])]

    def __str__(self) -> str:
        return f"{self.shard_id} #{self.seq} {self.type}"
