"""Rewards of one group -> advantages. Pure arithmetic on Python floats; no tensors, no tokens.

For group rewards r_1..r_n (INFRA rollouts left out):

    leave_one_out   A_i = r_i - mean of the others            RLOO (arXiv 2402.14740), LOOP (arXiv 2502.01600)
    mean            A_i = r_i - mean of all                   GRPO (arXiv 2402.03300)
    normalize_std   A_i / (std of r_1..r_n, ddof 1, + 1e-6)   GRPO; off in Dr.GRPO (arXiv 2503.20783) and DeepSWE
"""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Literal

STD_EPSILON = 1e-6


def group_advantages(
    rewards: Sequence[float | None],
    filtered: Sequence[bool],
    *,
    baseline: Literal["leave_one_out", "mean"],
    normalize_std: bool,
    filtered_in_baseline: bool,
) -> list[float]:
    """Advantages of one group, [G].

    `rewards` [G]: None marks an INFRA rollout, which gets 0 and counts nowhere. `filtered` [G]: a filtered rollout's
    reward counts in the baseline (and std) of the others; with `filtered_in_baseline` false it is left out of the group
    and gets 0. A rollout with no others to compare with gets 0.
    """
    counted = [
        r is not None and (filtered_in_baseline or not f)
        for r, f in zip(rewards, filtered, strict=True)
    ]
    pool = [r for r, c in zip(rewards, counted, strict=True) if c and r is not None]
    scale = _spread(pool) if normalize_std else 1.0
    advantages = []
    for i, reward in enumerate(rewards):
        others = [r for j, r in enumerate(rewards) if j != i and counted[j] and r is not None]
        if reward is None or not counted[i] or not others:
            advantages.append(0.0)
        elif baseline == "leave_one_out":
            advantages.append((reward - fmean(others)) / scale)
        else:
            advantages.append((reward - fmean([*others, reward])) / scale)
    return advantages


def _spread(rewards: Sequence[float]) -> float:
    """Standard deviation (ddof 1) + epsilon; of fewer than two rewards, epsilon alone."""
    return (stdev(rewards) if len(rewards) > 1 else 0.0) + STD_EPSILON
