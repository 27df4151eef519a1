"""What both sides of the comparison are given, and what each measures: plain data, written as JSON.

Standard library only, for each side reads it in an environment of its own. It measures nothing.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The step that both trainers take: everything that decides how much work it is."""

    model: str
    """Folder of the model."""
    dtype: str
    """Compute type: bfloat16, or float32 on a machine that only converts it."""
    task_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    """Rendered by the chat template, one a task."""
    group_size: int
    max_tokens: int
    """Sampled tokens of one rollout at most; a rollout is one turn."""
    stop: str
    """Ends a completion, as the model's end of turn does."""
    temperature: float
    learning_rate: float
    weight_decay: float
    beta1: float
    beta2: float
    max_grad_norm: float
    clip_ratio_low: float
    clip_ratio_high: float
    seed: int

    @property
    def num_rollouts(self) -> int:
        return len(self.prompts) * self.group_size

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Self:
        data = json.loads(path.read_text())
        for name in ("task_ids", "prompts"):
            data[name] = tuple(data[name])
        return cls(**data)


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """One step of one trainer; seconds of wall time."""

    sampling_s: float
    """From the tasks to rewarded completions."""
    update_s: float
    """From rewarded completions to new weights."""
    whole_s: float
    """Both, and whatever else the trainer does in a step."""
    num_rollouts: int
    prompt_tokens: int
    """Of all rollouts, however often a trainer computes a prompt that they share."""
    sampled_tokens: int
    update_tflops: float = 0.0
    """TFLOP/s of the update by the formula of `trainer.model.flops`, which counts the work that is left; 0 where not known."""
    matmul_tflops: float = 0.0
    """TFLOP/s of plain matrix products in the compute type, measured just before and after the step."""


def save_steps(steps: Sequence[StepTime], path: Path) -> None:
    path.write_text(json.dumps([dataclasses.asdict(step) for step in steps]))


def load_steps(path: Path) -> list[StepTime]:
    return [StepTime(**step) for step in json.loads(path.read_text())]


def alternating_rewards(num_rollouts: int) -> list[float]:
    """1, 0, 1, 0, ...: no group without a signal, so neither trainer can leave one out."""
    return [float(index % 2 == 0) for index in range(num_rollouts)]
