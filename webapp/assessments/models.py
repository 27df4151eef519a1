"""Assessments, passes over the rollouts of an evaluation that has ended, and what verifiers said of these.

Every change of an assessment's status is in `lifecycle`; the process is `supervise`'s.
"""

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from webapp.evaluations.models import Evaluation
from webapp.rollouts.models import Rollout
from webapp.verifiers.models import Verifier


class Kind(models.TextChoices):
    VERIFY = "verify", "Verification"
    """A verifier scores every rollout that has a reward."""
    REGRADE = "regrade", "Regrading"
    """The stored patches are graded again; no model is asked."""


class AssessmentStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    STOPPING = "stopping", "Stopping"
    STOPPED = "stopped", "Stopped"
    FINISHED = "finished", "Finished"
    FAILED = "failed", "Failed"


HELD = (AssessmentStatus.RUNNING, AssessmentStatus.STOPPING)
UNDER_WAY = (AssessmentStatus.QUEUED, *HELD)
"""Of these an evaluation has one at most."""


class AssessmentQuerySet(models.QuerySet["Assessment"]):
    def under_way(self) -> "AssessmentQuerySet":
        return self.filter(status__in=UNDER_WAY)


class Assessment(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    evaluation = models.ForeignKey(Evaluation, on_delete=models.CASCADE, related_name="assessments")
    kind = models.CharField(max_length=12, choices=Kind)
    verifier = models.ForeignKey(Verifier, null=True, on_delete=models.CASCADE)
    """Of a verification."""
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL
    )
    status = models.CharField(
        max_length=12, choices=AssessmentStatus, default=AssessmentStatus.QUEUED
    )
    reason = models.TextField(blank=True)
    """Why it is where it is: one sentence for people."""
    num_done = models.PositiveIntegerField(default=0)
    num_wanted = models.PositiveIntegerField(default=0)
    """Rollouts."""
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    lease = models.UUIDField(null=True, blank=True, editable=False)
    """Made by the claim; whoever holds another one has lost it."""
    lease_expires_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = AssessmentQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-created_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["evaluation"],
                condition=models.Q(status__in=("queued", "running", "stopping")),
                name="one_assessment_under_way",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.evaluation_id} {self.created_at:%Y-%m-%d %H:%M}"

    @property
    def is_under_way(self) -> bool:
        return self.status in UNDER_WAY

    @property
    def is_live(self) -> bool:
        """A worker holds it."""
        return self.status in HELD

    @property
    def is_ended(self) -> bool:
        return not self.is_under_way


class Result(models.Model):
    """What a verifier says of a rollout: a judge its score, one that runs tests how many hold."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="results")
    verifier = models.ForeignKey(Verifier, on_delete=models.CASCADE, related_name="results")
    score = models.FloatField(null=True)
    """In (0, 1): how likely the issue is solved."""
    regression = models.PositiveIntegerField(null=True)
    """Tests of the repository that passed before and still do."""
    reproduction = models.PositiveIntegerField(null=True)
    """Cases of the reproduction script that say the issue is resolved."""

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["rollout", "verifier"], name="result_once"),
            models.CheckConstraint(
                condition=models.Q(score=None) ^ models.Q(regression=None, reproduction=None),
                name="result_of_one_kind",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verifier_id} of {self.rollout_id}"
