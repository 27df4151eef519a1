"""What a run practises on, and what it is measured on. Its rollouts are `trainer.rollouts.collect`'s business."""

from typing import Any, NamedTuple

from transformers import AutoTokenizer

from sandbox.task import Task, Taskset, load_taskset
from trainer.config import ConfigError, TrainConfig
from trainer.engines.chat import Chat, Prompt, load_prompt


class Practice(NamedTuple):
    """The run's tasks, and how they are put to the model."""

    pool: list[Task]
    """What is practised on."""
    held_out: list[Task]
    """What evaluations measure; empty when the run makes none."""
    prompt: Prompt
    tokenizer: Any
    chat: Chat


def load_practice(config: TrainConfig) -> Practice:
    """Raises TasksetError, and ConfigError when no task is left or a prompt is too long."""
    taskset = load_taskset(config.tasks.taskset)
    pool = training_tasks(taskset, config)
    held_out = evaluation_tasks(taskset, config)
    prompt = load_prompt(config.rollout.prompt)
    tokenizer = AutoTokenizer.from_pretrained(config.model.path)
    chat = Chat(tokenizer)
    check_prompts(pool + held_out, prompt, chat, config)
    return Practice(pool, held_out, prompt, tokenizer, chat)


def training_tasks(taskset: Taskset, config: TrainConfig) -> list[Task]:
    """The run's training pool. Raises ConfigError when a named task is not there or nothing is left."""
    pool = taskset.select(split="train", difficulties=tuple(config.tasks.difficulties))
    if config.tasks.only:
        names = {f"{taskset.name}/{name}" for name in config.tasks.only}
        if unknown := names - {task.task_id for task in pool}:
            raise ConfigError(
                [
                    (
                        "tasks.only",
                        f"{', '.join(sorted(unknown))}: not a training task of these bands",
                    )
                ]
            )
        pool = [task for task in pool if task.task_id in names]
    if not pool:
        message = f"{config.tasks.difficulties}: taskset {taskset.name} has no such training task"
        raise ConfigError([("tasks.difficulties", message)])
    return pool[: config.tasks.limit or None]


def evaluation_tasks(taskset: Taskset, config: TrainConfig) -> list[Task]:
    """The held-out tasks of the run's evaluations; empty when it makes none, or the taskset holds none out.

    Raises ConfigError when those that it holds out are of other bands.
    """
    if not config.evaluation.every_steps:
        return []
    bands = config.evaluation.difficulties
    chosen = taskset.select(
        split="heldout", difficulties=tuple(bands), limit=config.evaluation.limit
    )
    if not chosen and taskset.select(split="heldout"):
        message = f"{bands}: taskset {taskset.name} has no such held-out task; name other bands, or none for all"
        raise ConfigError([("evaluation.difficulties", message)])
    return chosen


def check_prompts(tasks: list[Task], prompt: Prompt, chat: Chat, config: TrainConfig) -> None:
    """Raises ConfigError naming the first task whose prompt is too long."""
    limit = config.rollout.max_prompt_tokens
    for task in tasks:
        length = len(chat.encode_prompt(prompt.messages(task)))
        if length > limit:
            raise ConfigError(
                [
                    (
                        "rollout.max_prompt_tokens",
                        f"{limit}: the prompt of {task.task_id} has {length} tokens; raise it",
                    )
                ]
            )
