"""Sweeps: looks at which sandboxes there are, and removals of those that nobody holds, as rows.

Every change of a sweep's status is in `sweeps`. What is abandoned is for `python -m sandbox.reap` to say.
"""

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone


class SweepStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    FINISHED = "finished", "Finished"
    FAILED = "failed", "Failed"


UNDER_WAY = (SweepStatus.QUEUED, SweepStatus.RUNNING)


class SweepQuerySet(models.QuerySet["Sweep"]):
    def under_way(self) -> "SweepQuerySet":
        return self.filter(status__in=UNDER_WAY)

    def ended(self) -> "SweepQuerySet":
        return self.exclude(status__in=UNDER_WAY)


class Sweep(models.Model):
    """One look at the sandboxes within reach of one worker."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    removes = models.BooleanField()
    """Whether expired sandboxes are removed, or only counted."""
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL
    )
    """Who asked for it; None for the periodic one."""
    status = models.CharField(max_length=12, choices=SweepStatus, default=SweepStatus.QUEUED)
    reason = models.TextField(blank=True)
    """Why it failed."""
    host = models.CharField(max_length=200, blank=True)
    """Of the worker that did it."""
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    recorded = models.JSONField(default=dict)
    """Backend -> the sandboxes that there were afterwards: {id, run, expires, abandoned} each."""
    removed = models.JSONField(default=list)
    """Ids."""
    errors = models.JSONField(default=list)
    """Sentences on what could not be removed."""
    unavailable = models.JSONField(default=dict)
    """Backend -> why it was not asked."""

    objects: ClassVar[Any] = SweepQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-created_at"]

    def __str__(self) -> str:
        return f"{'removal' if self.removes else 'look'} {self.created_at:%Y-%m-%d %H:%M}"

    @property
    def is_under_way(self) -> bool:
        return self.status in UNDER_WAY
