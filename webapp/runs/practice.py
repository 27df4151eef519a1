"""What a run may practise on and where: the tasksets and sandbox backends that the studio knows, and which choice of
tasks a taskset can serve.

The trainer judges the same when it starts (`trainer.rollouts.practice.training_tasks`); here it is told before the launch. A
taskset that was never loaded into the database is left to the trainer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.db.models import Count, Q

from sandbox.available import REMEDIES
from trainer.config import TrainConfig
from webapp.runs import placement
from webapp.tasksets.models import Task, Taskset

FILTERS = ("tasks.difficulties", "tasks.only", "evaluation.difficulties")
"""Fields that name bands or tasks of one taskset, and mean nothing to another."""


@dataclass(frozen=True, kw_only=True)
class BackendOffer:
    """A sandbox backend as the form offers it."""

    name: str
    workers: tuple[str, ...]
    """Those online that have it."""
    remedy: str
    """What a machine without it is missing, and how to get it."""


def backend_offers(queue: str = placement.QUEUE) -> list[BackendOffer]:
    """Every backend, with the workers online for the queue that have it."""
    workers = placement.workers_of(queue)
    return [
        BackendOffer(
            name=name,
            workers=tuple(w.name for w in workers if name in w.sandbox_backends),
            remedy=remedy,
        )
        for name, remedy in REMEDIES.items()
    ]


def taskset_choices(current: str) -> list[tuple[str, str]]:
    """(value of `tasks.taskset`, what people read); the current value is among them, loaded or not."""
    train = Count("tasks", filter=Q(tasks__split="train"))
    heldout = Count("tasks", filter=Q(tasks__split="heldout"))
    rows = Taskset.objects.annotate(train=train, heldout=heldout).order_by("name")
    choices = [
        (row.source, f"{row.name} ({row.train} train, {row.heldout} held out)")
        for row in rows
        if row.source
    ]
    if current not in dict(choices):
        choices.append((current, f"{current} (not loaded here)"))
    return choices


def problems(config: TrainConfig) -> Iterator[tuple[str, str]]:
    """(field, message) for each filter that leaves nothing of the taskset to practise on."""
    taskset = Taskset.objects.filter(source=config.tasks.taskset).first()
    if taskset is None:
        return
    train = list(taskset.tasks.filter(split="train").only("task_id", "difficulty"))
    bands = config.tasks.difficulties
    pool = [task for task in train if not bands or task.difficulty in bands]
    unknown = set(config.tasks.only) - {_name(task, taskset) for task in pool}
    if not train:
        yield (
            "tasks.taskset",
            f"{taskset.name} has no training task, only held-out ones: choose another",
        )
    elif not pool:
        yield "tasks.difficulties", f"{_bands(bands, taskset, train)}; choose others, or none"
    elif unknown:
        yield (
            "tasks.only",
            f"{', '.join(sorted(unknown))}: no training task of these bands of {taskset.name}; "
            "take it out, or leave the field empty for all",
        )
    if config.evaluation.every_steps and (bands := config.evaluation.difficulties):
        heldout = list(taskset.tasks.filter(split="heldout").only("task_id", "difficulty"))
        if heldout and not any(task.difficulty in bands for task in heldout):
            yield (
                "evaluation.difficulties",
                f"{_bands(bands, taskset, heldout)}; choose others, or none",
            )


def unfit_filters(source: str, values: dict[str, list[str]]) -> list[str]:
    """Which of FILTERS, as they stand in `values`, name what the taskset of that source has not."""
    taskset = Taskset.objects.filter(source=source).first()
    if taskset is None:
        return []
    tasks = list(taskset.tasks.only("task_id", "difficulty"))
    known = {
        "tasks.difficulties": {task.difficulty for task in tasks},
        "tasks.only": {_name(task, taskset) for task in tasks},
        "evaluation.difficulties": {task.difficulty for task in tasks},
    }
    return [field for field in FILTERS if set(values.get(field, [])) - known[field]]


def _name(task: Task, taskset: Taskset) -> str:
    """As `tasks.only` names it."""
    return str(task.task_id).removeprefix(f"{taskset.name}/")


def _bands(wanted: Sequence[str], taskset: Taskset, tasks: list[Task]) -> str:
    named = ", ".join(wanted)
    if any(task.difficulty for task in tasks):
        return f"{named}: {taskset.name} has no such task"
    return f"{named}: the tasks of {taskset.name} have no difficulty"
