"""Which tasks a run is evaluated on."""

import pytest

from sandbox.task import Task, Taskset, load_taskset
from trainer.config import ConfigError
from trainer.recipes import load_recipe
from trainer.rollouts.practice import evaluation_tasks

STARTER = load_taskset("starter")
CONFIG = load_recipe("starter-cpu", {"evaluation": {"difficulties": ["hard"]}})


def with_only(tasks: list[Task]) -> Taskset:
    return STARTER.model_copy(update={"tasks": tasks})


def without(*, held_out: str) -> list[Task]:
    return [t for t in STARTER.tasks if t.split == "train" or t.difficulty != held_out]


def test_bands_without_a_held_out_task_are_refused() -> None:
    assert evaluation_tasks(STARTER, CONFIG)
    with pytest.raises(ConfigError, match=r"\['hard'\]: taskset starter has no such held-out task"):
        evaluation_tasks(with_only(without(held_out="hard")), CONFIG)


def test_a_taskset_that_holds_nothing_out_is_no_error() -> None:
    tasks = [task for task in STARTER.tasks if task.split == "train"]
    assert evaluation_tasks(with_only(tasks), CONFIG) == []
