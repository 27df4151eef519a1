"""Assessments, passes over the rollouts of an evaluation that has ended, and what verifiers said of these.

An assessment's beginning is in `lifecycle`, the changes of its status are every leased job's; the process is `supervise`'s.
"""

from typing import ClassVar

from django.db import models

from webapp.evaluations.models import Evaluation
from webapp.leased_jobs import LeasedJob, one_under_way
from webapp.rollouts.models import Rollout
from webapp.runs.models import Worker
from webapp.verifiers.models import Verifier


class Kind(models.TextChoices):
    VERIFY = "verify", "Verification"
    """A verifier scores every rollout that has a reward."""
    REGRADE = "regrade", "Regrading"
    """The stored patches are graded again; no model is asked."""


class Assessment(LeasedJob):
    evaluation = models.ForeignKey(Evaluation, on_delete=models.CASCADE, related_name="assessments")
    kind = models.CharField(max_length=12, choices=Kind)
    verifier = models.ForeignKey(Verifier, null=True, on_delete=models.CASCADE)
    """Of a verification."""
    worker = models.ForeignKey(
        Worker, null=True, blank=True, on_delete=models.SET_NULL, related_name="assessments"
    )
    """Who took it last."""
    num_done = models.PositiveIntegerField(default=0)
    num_wanted = models.PositiveIntegerField(default=0)
    """Rollouts."""

    class Meta(LeasedJob.Meta):
        constraints: ClassVar = [one_under_way("evaluation", name="one_assessment_under_way")]

    def __str__(self) -> str:
        return f"{self.kind} {self.evaluation_id} {self.created_at:%Y-%m-%d %H:%M}"


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
