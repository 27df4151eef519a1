"""Tasksets and tasks as the pages show them; `manage.py load_taskset` fills them.

A validation's beginning is in `validations`, the changes of its status are every leased job's.
"""

from typing import ClassVar

from django.db import models

from webapp.leased_jobs import LeasedJob, one_under_way


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


class Validation(LeasedJob):
    """One validation of a taskset; its verdicts are the tasks' `validation`."""

    taskset = models.ForeignKey(Taskset, on_delete=models.CASCADE, related_name="validations")
    backend = models.CharField(max_length=20, default="bubblewrap")
    runs = models.PositiveIntegerField(default=3)
    num_tasks = models.PositiveIntegerField(default=0)
    num_judged = models.PositiveIntegerField(default=0)
    num_accepted = models.PositiveIntegerField(default=0)
    read_offset = models.BigIntegerField(default=0)
    """How far its events are stored, moved in the same transaction as the rows."""

    class Meta(LeasedJob.Meta):
        constraints: ClassVar = [one_under_way("taskset", name="one_validation_under_way")]

    def __str__(self) -> str:
        return f"{self.taskset_id} {self.created_at:%Y-%m-%d %H:%M}"

    @property
    def num_excluded(self) -> int:
        return self.num_judged - self.num_accepted
