"""What a configuration will cost: rollouts, tokens, time, memory, disk. Pure: a configuration and
measured paces in, numbers out.

Counts and disk follow from the configuration. Time follows from steps that were measured with the
same recipe; where none was, it stays unknown rather than invented.
"""

import re
from dataclasses import dataclass

from trainer.config import TrainConfig

BYTES_PER_PARAMETER = 12
"""A checkpoint: float32 weights and AdamW's two float32 moments."""
BYTES_PER_FROZEN_PARAMETER = 4
"""With LoRA, whose adapter is small beside it: the merged float32 weights."""
BYTES_PER_TOKEN = 16
"""Kept of each token: id, log-probability and mask, as arrays."""
EVENT_BYTES_PER_ROLLOUT = 6000
"""Text of turns, patch and tests in the event file, measured on starter runs."""
GIB = 1024**3
PRACTICE_SHARE = 0.5
"""Rollouts end well before their token limit; half of it is the usual length."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Steps measured with the same recipe."""

    step_s: float
    """Median seconds a step, without the evaluations and checkpoints between steps."""
    rollouts_per_step: int
    num_steps: int
    """How many were measured."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    rollouts_per_step: int
    extra_rollouts_per_step: int
    """At most, of extra groups; in no other number here."""
    train_rollouts: int
    evaluation_rollouts: int
    num_evaluations: int
    max_tokens_per_step: int
    """Upper bound: prompts and responses at their limits."""
    seconds: float | None
    step_s: float | None
    checkpoint_gib: float | None
    """None when the model's size is not in its name."""
    disk_gib: float | None
    parameters: float | None

    @property
    def rollouts(self) -> int:
        return self.train_rollouts + self.evaluation_rollouts


def estimate(config: TrainConfig, *, heldout_tasks: int, pace: Pace | None) -> Estimate:
    """`heldout_tasks` of the configured bands exist; `pace` is None when the recipe was never
    measured.
    """
    per_step = config.tasks.tasks_per_step * config.rollout.group_size
    evaluations = config.evaluation.count(config.num_steps)
    limit = config.evaluation.limit
    tasks = min(limit, heldout_tasks) if limit else heldout_tasks
    evaluation_rollouts = evaluations * tasks * config.evaluation.group_size
    longest = config.rollout.max_prompt_tokens + config.rollout.max_response_tokens
    step_s = pace.step_s * per_step / pace.rollouts_per_step if pace else None
    parameters = parameters_of(config.model.path)
    size = BYTES_PER_FROZEN_PARAMETER if config.lora.rank else BYTES_PER_PARAMETER
    checkpoint = parameters * size / GIB if parameters else None
    train_rollouts = per_step * config.num_steps
    kept = min(config.checkpoint.keep, _num_checkpoints(config))
    rollout_bytes = longest * PRACTICE_SHARE * BYTES_PER_TOKEN + EVENT_BYTES_PER_ROLLOUT
    files_gib = (train_rollouts + evaluation_rollouts) * rollout_bytes / GIB
    return Estimate(
        rollouts_per_step=per_step,
        extra_rollouts_per_step=config.tasks.max_extra_groups * config.rollout.group_size,
        train_rollouts=train_rollouts,
        evaluation_rollouts=evaluation_rollouts,
        num_evaluations=evaluations,
        max_tokens_per_step=per_step * longest,
        seconds=step_s * config.num_steps if step_s else None,
        step_s=step_s,
        checkpoint_gib=checkpoint,
        disk_gib=checkpoint * kept + files_gib if checkpoint is not None else None,
        parameters=parameters,
    )


def parameters_of(model: str) -> float | None:
    """Parameters by the size in a model's name: `smollm2-135m`, `Qwen3-0.6B`."""
    found = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([mb])(?![a-z])", model.rsplit("/", 1)[-1].lower())
    if not found:
        return None
    return float(found[1]) * (1e9 if found[2] == "b" else 1e6)


def _num_checkpoints(config: TrainConfig) -> int:
    """One every so many steps, and one after the last step or at a stop."""
    every = config.checkpoint.every_steps
    return -(-config.num_steps // every) if every else 1
