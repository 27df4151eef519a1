"""What a verifier learns from: the scored rollouts of evaluations as a verifier is asked about them, each with its reward.

A share of the tasks is held out, chosen by a hash of their names, so that whatever evaluations are taken together a task is
never in both parts.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.config import ConfigError
from trainer.evaluations.results import read_results
from trainer.verifiers.questions import questions


@dataclass(frozen=True, kw_only=True)
class Example:
    task: str
    messages: list[dict[str, str]]
    reward: float


def read_examples(
    eval_dirs: Sequence[Path], *, max_tokens: int, heldout: float
) -> tuple[list[Example], list[Example]]:
    """Train and held-out examples, solved and unsolved ones in both.

    Raises ConfigError when there are none, TasksetError, FileNotFoundError.
    """
    examples = [e for folder in eval_dirs for e in _examples_of(folder, max_tokens)]
    parts = split_by_task(examples, heldout)
    for part, name in zip(parts, ("train", "held-out"), strict=True):
        if len({example.reward >= 1 for example in part}) < 2:
            message = f"{len(part)} {name} rollouts: needs solved and unsolved ones of both parts"
            raise ConfigError([("eval_dirs", message)])
    return parts


def _examples_of(folder: Path, max_tokens: int) -> Iterator[Example]:
    asked = questions(folder, max_tokens)
    for result in read_results(folder):
        if result.reward is not None:
            yield Example(task=result.task, messages=asked[result.rollout], reward=result.reward)


def split_by_task(
    examples: Sequence[Example], heldout: float
) -> tuple[list[Example], list[Example]]:
    """Train and held-out examples: a task is in one of them, always in the same."""
    parts: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        digest = hashlib.sha256(example.task.encode()).digest()
        parts[int.from_bytes(digest[:8]) < heldout * 2**64].append(example)
    return parts


def class_weights(rewards: Sequence[float]) -> list[float]:
    """One a rollout: solved ones together weigh as much as the others, and the mean is 1."""
    num_solved = sum(reward >= 1 for reward in rewards)
    half = len(rewards) / 2
    return [
        half / num_solved if reward >= 1 else half / (len(rewards) - num_solved)
        for reward in rewards
    ]
