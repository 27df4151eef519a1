"""Scored groups -> the step's metrics, each a (numerator, denominator) pair, so that means over steps are exact.

The update's own metrics (loss, ratios, norms) come from `trainer.update`.
"""

from collections.abc import Sequence

from trainer.events import Metric
from trainer.rollout import Rollout, ScoredGroup


def rollout_metrics(groups: Sequence[ScoredGroup], seconds: float) -> dict[str, Metric]:
    """What a batch of groups shows; `seconds` of wall time it took to collect."""
    rollouts = [r for g in groups for r in g.rollouts]
    counted = [r for r in rollouts if r.reward is not None]
    n, c = float(len(rollouts)), float(len(counted))
    rewards = [r.reward for r in counted if r.reward is not None]
    mean = sum(rewards) / c if c else 0.0
    filtered = sum(
        f
        for g in groups
        for f, r in zip(g.filtered, g.rollouts, strict=True)
        if r.reward is not None
    )
    turns = [t for r in counted for t in r.turns]
    reasons = sorted({r.termination_reason for r in rollouts})
    return {
        "reward/mean": (sum(rewards), c),
        "reward/std": (sum((r - mean) ** 2 for r in rewards) ** 0.5, max(c, 1.0) ** 0.5),
        **_solved(groups),
        "groups/trained": (float(sum(g.trained for g in groups)), float(len(groups))),
        "advantage/abs_mean": (sum(abs(a) for g in groups for a in g.advantages), c),
        "filtered/fraction": (float(filtered), c),
        **{f"termination/{reason}": (_count(rollouts, reason), n) for reason in reasons},
        "outcome/infra": (n - c, n),
        "turns/mean": (float(len(turns)), c),
        "tokens/prompt": (float(sum(len(r.prompt_ids) for r in counted)), c),
        "tokens/sampled": (float(sum(r.num_sampled_tokens for r in counted)), c),
        "tokens/response": (float(sum(len(r.response_ids) for r in counted)), c),
        "tool/error_rate": (float(sum(bool(t.error) for t in turns)), float(len(turns))),
        "flags/fraction": (float(sum(bool(r.flags) for r in counted)), c),
        "time/generate_s": (sum(t.generate_s for t in turns), c),
        "time/tool_s": (sum(t.tool_s for t in turns), c),
        "time/grade_s": (sum(r.grade_s for r in counted), c),
        "perf/sampled_tokens_per_s": (float(sum(r.num_sampled_tokens for r in rollouts)), seconds),
    }


def _solved(groups: Sequence[ScoredGroup]) -> dict[str, Metric]:
    """Fractions of groups in which no, some or all rollouts were rewarded."""
    rates = []
    for group in groups:
        rewards = [r.reward for r in group.rollouts if r.reward is not None]
        if rewards:
            rates.append(sum(rewards) / len(rewards))
    n = float(len(rates))
    return {
        "solved/none": (float(sum(rate == 0 for rate in rates)), n),
        "solved/some": (float(sum(0 < rate < 1 for rate in rates)), n),
        "solved/all": (float(sum(rate == 1 for rate in rates)), n),
    }


def _count(rollouts: Sequence[Rollout], reason: str) -> float:
    return float(sum(r.termination_reason == reason for r in rollouts))
