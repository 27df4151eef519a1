"""From taskset folders to rows. Validation is `sandbox.validate`'s, in a process of its own."""

from pathlib import Path

from django.db import transaction

from sandbox import task as tasks
from webapp.tasksets import shipping
from webapp.tasksets.models import Task, Taskset


@transaction.atomic
def load(name_or_path: str) -> Taskset:
    """Enter a bundled taskset, or one by folder, or enter it again. Raises TasksetError.

    Tasks that are no longer in it leave; what is known of the validation of the others stays.
    """
    read = tasks.load_taskset(name_or_path)
    defaults = {
        "description": read.description,
        "source": _source(name_or_path),
        "archive": "" if shipping.is_bundled(name_or_path) else shipping.ship(read),
    }
    taskset, _ = Taskset.objects.update_or_create(name=read.name, defaults=defaults)
    for task in read.tasks:
        Task.objects.update_or_create(
            task_id=task.task_id, defaults={"taskset": taskset} | _fields(task)
        )
    taskset.tasks.exclude(task_id__in=[task.task_id for task in read.tasks]).delete()
    return taskset


def _source(name_or_path: str) -> str:
    """What names the same taskset from any folder of this machine."""
    return name_or_path if shipping.is_bundled(name_or_path) else str(Path(name_or_path).resolve())


def _fields(task: tasks.Task) -> dict[str, object]:
    return {
        "repo_name": task.repo_name,
        "docker_image": task.docker_image,
        "difficulty": task.difficulty or "",
        "split": task.split or "",
        "problem_statement": task.problem_statement,
        "gold_patch": task.gold_patch,
        "expected_output": task.expected_output,
        "files": task.files,
    }
