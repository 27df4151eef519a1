"""Tasksets and tasks as the pages show them; `manage.py load_taskset` fills them.

Every change of a validation's status is in `validations`.
"""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone


class Taskset(models.Model):
    name = models.CharField(max_length=120, unique=True)
    description = models.TextField(blank=True)
    source = models.CharField(max_length=500, blank=True)
    """What it was loaded by: a bundled taskset's name, or the path of a folder where it was loaded."""
    archive = models.CharField(max_length=200, blank=True)
    """Its tasks in the object store, for machines without that folder; empty for a bundled one."""
    loaded_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.name


class Task(models.Model):
    taskset = models.ForeignKey(Taskset, on_delete=models.CASCADE, related_name="tasks")
    task_id = models.CharField(max_length=200, unique=True)
    repo_name = models.CharField(max_length=200)
    docker_image = models.CharField(max_length=300)
    difficulty = models.CharField(max_length=10, blank=True)
    split = models.CharField(max_length=10, blank=True)
    problem_statement = models.TextField()
    gold_patch = models.TextField(blank=True)
    expected_output = models.JSONField(default=dict)
    files = models.JSONField(default=dict)
    validation = models.JSONField(default=dict)
    """{valid, reason, runs} of the last validation; empty before the first."""

    class Meta:
        ordering: ClassVar = ["task_id"]

    def __str__(self) -> str:
        return self.task_id


class ValidationStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    STOPPING = "stopping", "Stopping"
    STOPPED = "stopped", "Stopped"
    FINISHED = "finished", "Finished"
    FAILED = "failed", "Failed"


UNDER_WAY = (ValidationStatus.QUEUED, ValidationStatus.RUNNING, ValidationStatus.STOPPING)
"""Of these a taskset has one at most."""


class Validation(models.Model):
    """One validation of a taskset; its verdicts are the tasks' `validation`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    taskset = models.ForeignKey(Taskset, on_delete=models.CASCADE, related_name="validations")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL
    )
    status = models.CharField(
        max_length=12, choices=ValidationStatus, default=ValidationStatus.QUEUED
    )
    reason = models.TextField(blank=True)
    """Why it is where it is: one sentence for people."""
    backend = models.CharField(max_length=20, default="bubblewrap")
    runs = models.PositiveIntegerField(default=3)
    num_tasks = models.PositiveIntegerField(default=0)
    num_judged = models.PositiveIntegerField(default=0)
    num_accepted = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    lease = models.UUIDField(null=True, blank=True, editable=False)
    """Made by the claim; whoever holds another one has lost the validation."""
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    read_offset = models.BigIntegerField(default=0)
    """How far its events are stored, moved in the same transaction as the rows."""

    class Meta:
        ordering: ClassVar = ["-created_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["taskset"],
                condition=models.Q(status__in=("queued", "running", "stopping")),
                name="one_validation_under_way",
            )
        ]

    def __str__(self) -> str:
        return f"{self.taskset_id} {self.created_at:%Y-%m-%d %H:%M}"

    @property
    def is_under_way(self) -> bool:
        return self.status in UNDER_WAY

    @property
    def is_live(self) -> bool:
        """A worker holds it."""
        return self.is_under_way and self.status != ValidationStatus.QUEUED

    @property
    def num_excluded(self) -> int:
        return self.num_judged - self.num_accepted
