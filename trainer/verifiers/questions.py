"""What a verifier is asked about an evaluation: one chat for each scored rollout."""

from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from sandbox.errors import TasksetError
from sandbox.task import Task, load_taskset
from trainer.evaluations.config import parse_evaluation
from trainer.evaluations.results import read_header, read_results, turns_of
from trainer.verifiers.prompt import messages

CHARS_PER_TOKEN = 3
"""Cautious: code has three to four characters a token."""


def questions(
    eval_dir: Path, max_tokens: int, *, taskset: str = ""
) -> dict[UUID, list[dict[str, str]]]:
    """rollout -> the chat that asks about it, of every scored rollout, in `max_tokens` or about as many.

    The tasks are the evaluation's own unless `taskset` names others. Raises ConfigError, TasksetError, FileNotFoundError.
    """
    config = parse_evaluation(read_header(eval_dir).started.config)
    found = load_taskset(taskset or config.tasks.taskset)
    tasks: Mapping[str, Task] = {task.task_id: task for task in found.tasks}
    results = [result for result in read_results(eval_dir) if result.reward is not None]
    if unknown := sorted({result.task for result in results} - tasks.keys()):
        raise TasksetError(f"{unknown[0]}: not in the taskset; name it by --taskset")
    return {
        result.rollout: messages(
            tasks[result.task].problem_statement,
            [event.turn for event in turns],
            result.patch.decode(errors="replace"),
            max_chars=CHARS_PER_TOKEN * max_tokens,
        )
        for result, turns in turns_of(results)
    }
