"""Verifiers that may be chosen: models that judge whether a rollout solved its task, or write tests that do.

`registry` enters them. Their scores of an evaluation's rollouts are `webapp.assessments`'.
"""

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone

from trainer.evaluations.scores import VERIFIER_NAME

NAME = RegexValidator(
    rf"^{VERIFIER_NAME}$", "Letters, digits, dot, dash and underscore, a letter or digit first."
)
"""What `python -m trainer.verify --name` takes: it is a file's name."""


class VerifierKind(models.TextChoices):
    JUDGE = "judge", "reads and judges"
    """`python -m trainer.verify`: how likely the issue is solved, from trajectory and patch."""
    TESTS = "tests", "writes and runs tests"
    """`python -m trainer.run_tests`: an agent writes reproduction tests, and patches run against them."""


class Verifier(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80, unique=True, validators=[NAME])
    kind = models.CharField(max_length=8, choices=VerifierKind, default=VerifierKind.JUDGE)
    path = models.CharField(max_length=500, blank=True)
    """Model folder or id on the workers; with an endpoint its name there. Empty: known by its scores alone."""
    endpoint = models.CharField(max_length=500, blank=True)
    """An OpenAI-compatible server that tells log-probabilities (".../v1"); empty: a worker loads the model."""
    max_tokens = models.PositiveIntegerField(default=65536)
    """Length of a judge's question, about: a longer log is shortened."""
    measured = models.JSONField(default=dict)
    """verifier.json of `python -m trainer.train_verifier`; empty for a model that was not trained here."""
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def can_be_asked(self) -> bool:
        return bool(self.path)

    @property
    def base_model(self) -> str:
        """What it was trained from."""
        return str(self.measured.get("model", ""))

    @property
    def heldout(self) -> dict[str, Any]:
        """AUC, Brier score and calibration error on tasks that it never saw; empty when it was not trained here."""
        return dict(self.measured.get("after", {}))

    @property
    def num_heldout_tasks(self) -> int:
        return len(self.measured.get("heldout_tasks", ()))
