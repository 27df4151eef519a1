"""Tasksets and tasks as the pages show them; `manage.py load_taskset` fills them."""

from typing import ClassVar

from django.db import models


class Taskset(models.Model):
    name = models.CharField(max_length=120, unique=True)
    description = models.TextField(blank=True)
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
