"""A run in a few numbers: reward now and its change, held-out reward, pace, time left. Pure: rows
in, numbers out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from webapp.runs.models import Run, RunEvaluation

PACE_STEPS = 8
"""Newest steps whose median is the pace."""


class Measured(NamedTuple):
    """What the headline knows of a step."""

    reward: float | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Headline:
    reward: float | None
    """Mean reward of the newest step."""
    change: float | None
    """Against the first step."""
    heldout: float | None
    heldout_change: float | None
    """Newest held-out evaluation against that of the untrained policy."""
    step_s: float | None
    """Median seconds of the newest steps."""
    left_s: float | None
    """Of steps and evaluations; None when the run is not going on or nothing was measured."""


def headline(run: Run, steps: Sequence[Measured], evaluations: Sequence[RunEvaluation]) -> Headline:
    """`steps` and `evaluations` are those that count, oldest first."""
    rewards = [row.reward for row in steps if row.reward is not None]
    heldout = [row.mean_reward for row in evaluations]
    compared = len(heldout) > 1 and evaluations[0].step == 0
    step_s = median(row.seconds for row in steps[-PACE_STEPS:]) if steps else None
    left = (run.num_steps - run.current_step) * step_s if step_s and run.is_live else None
    if left is not None and evaluations:
        left += evaluations_left(run) * median(row.seconds for row in evaluations)
    return Headline(
        reward=rewards[-1] if rewards else None,
        change=rewards[-1] - rewards[0] if len(rewards) > 1 else None,
        heldout=heldout[-1] if heldout else None,
        heldout_change=heldout[-1] - heldout[0] if compared else None,
        step_s=step_s,
        left_s=left,
    )


def evaluations_left(run: Run) -> int:
    """Those of the policy that is trained: one every so many steps, and one after the last."""
    every = int(run.config.get("evaluation", {}).get("every_steps", 0))
    if not every or run.current_step >= run.num_steps:
        return 0
    return -(-run.num_steps // every) - run.current_step // every
