"""Groups, rollouts and turns. Their ids come from the event file: a replay keeps them."""

from typing import Any, ClassVar

from django.db import models
from django.db.models import Count, F, Q, Window
from django.db.models.functions import RowNumber

HEAVY = ("patch", "tests", "files", "reason")
"""Columns of a rollout that tables and strips do without."""

STRIP_CELLS = 128
"""The most that a strip of a step shows: a step of the published recipe has 512 rollouts."""


class Belonging(models.Model):
    """A row of a run or of an evaluation, of exactly one of them."""

    run = models.ForeignKey(
        "runs.Run", null=True, on_delete=models.CASCADE, related_name="%(class)ss"
    )
    evaluation = models.ForeignKey(
        "evaluations.Evaluation", null=True, on_delete=models.CASCADE, related_name="%(class)ss"
    )

    class Meta:
        abstract = True
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(run=None) ^ Q(evaluation=None), name="%(class)s_of_one"
            )
        ]

    @property
    def whole(self) -> Any:
        """The run or the evaluation: both have a name, an end and a last_seq."""
        return self.run or self.evaluation


class Group(Belonging):
    """The rollouts of one task in one step, or in an evaluation."""

    id = models.UUIDField(primary_key=True, editable=False)
    task = models.CharField(max_length=200)
    step = models.PositiveIntegerField()
    purpose = models.CharField(max_length=12)
    """train or evaluation."""
    attempt = models.PositiveIntegerField(default=1)
    superseded = models.BooleanField(default=False)
    policy_version = models.PositiveIntegerField()
    prompt = models.TextField(blank=True)
    trained = models.BooleanField(null=True)
    """None until it is scored; False when no advantage was non-zero."""

    class Meta(Belonging.Meta):
        indexes: ClassVar = [
            models.Index(fields=["run", "purpose", "step"]),
            models.Index(fields=["run", "task"]),
        ]

    def __str__(self) -> str:
        return f"{self.task} at step {self.step}"


class RolloutQuerySet(models.QuerySet["Rollout"]):
    def in_flight(self) -> "RolloutQuerySet":
        return self.filter(finished_at=None, superseded=False)

    def counted(self) -> "RolloutQuerySet":
        """Those with a reward that no later attempt replaced."""
        return self.filter(superseded=False, reward__isnull=False)

    def light(self) -> "RolloutQuerySet":
        return self.defer(*HEAVY)

    def first_of_each_run(self, limit: int = STRIP_CELLS) -> "RolloutQuerySet":
        """At most `limit` of each run, by task; each says as `num_in_run` how many there were."""
        run = [F("run_id")]
        place = Window(RowNumber(), partition_by=run, order_by=["task", "group_id", "index"])
        counted = self.annotate(place=place, num_in_run=Window(Count("id"), partition_by=run))
        return counted.filter(place__lte=limit)


class Rollout(Belonging):
    """One attempt at a task."""

    id = models.UUIDField(primary_key=True, editable=False)
    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="rollouts")
    index = models.PositiveIntegerField()
    task = models.CharField(max_length=200)
    step = models.PositiveIntegerField()
    purpose = models.CharField(max_length=12)
    attempt = models.PositiveIntegerField(default=1)
    superseded = models.BooleanField(default=False)
    policy_version = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=12, blank=True)
    """task, agent_fault or infra; empty while in flight."""
    termination_reason = models.CharField(max_length=16, blank=True)
    flags = models.JSONField(default=list)
    reward = models.FloatField(null=True)
    advantage = models.FloatField(null=True)
    filtered = models.BooleanField(default=False)
    num_turns = models.PositiveIntegerField(default=0)
    num_prompt_tokens = models.PositiveIntegerField(default=0)
    num_sampled_tokens = models.PositiveIntegerField(default=0)
    num_response_tokens = models.PositiveIntegerField(default=0)
    tests = models.JSONField(default=dict)
    patch = models.TextField(blank=True)
    files = models.JSONField(default=dict)
    """Kind -> name in Django's default storage."""
    seconds = models.FloatField(default=0)
    grade_s = models.FloatField(default=0)
    reason = models.TextField(blank=True)

    objects: ClassVar[Any] = RolloutQuerySet.as_manager()

    class Meta(Belonging.Meta):
        indexes: ClassVar = [
            models.Index(fields=["run", "purpose", "step"]),
            models.Index(fields=["run", "task"]),
            models.Index(fields=["evaluation", "task"]),
        ]
        ordering: ClassVar = ["step", "index"]

    def __str__(self) -> str:
        return f"{self.task} #{self.index}"

    @property
    def in_flight(self) -> bool:
        return self.finished_at is None


class Turn(models.Model):
    """One action and its observation, as text."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="turns")
    index = models.PositiveIntegerField()
    time = models.DateTimeField()
    text = models.TextField()
    thought = models.TextField(blank=True)
    tool = models.CharField(max_length=80, blank=True)
    arguments = models.JSONField(default=dict)
    error = models.TextField(blank=True)
    observation = models.TextField(blank=True)
    observation_truncated = models.BooleanField(default=False)
    exit_code = models.IntegerField(null=True)
    num_prompt_tokens = models.PositiveIntegerField(default=0)
    num_sampled_tokens = models.PositiveIntegerField(default=0)
    generate_s = models.FloatField(default=0)
    tool_s = models.FloatField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["rollout", "index"], name="turn_once")
        ]
        ordering: ClassVar = ["index"]

    def __str__(self) -> str:
        return f"turn {self.index}"
