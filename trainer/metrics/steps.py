"""Scored groups -> the step's metrics, each a (numerator, denominator) pair, so that means over steps are exact.

A name that ends in p50, p90, p95, max, min or std is a statistic of this one step, and a mean of it over steps is a mean of
statistics. INFRA rollouts count where the name says so and nowhere else. What each name means is in docs/metrics.md; the
update's own metrics (loss, ratios, norms) come from `trainer.training.update`.
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from sandbox.trajectory import Turn
from trainer.events import Metric
from trainer.grpo.rollout import Rollout, ScoredGroup
from trainer.metrics.tally import Tally

CUT_SHORT = ("max_context", "max_turns", "timeout")
"""Termination reasons by which a limit ended the rollout, not the agent."""


def rollout_metrics(groups: Sequence[ScoredGroup], seconds: float) -> dict[str, Metric]:
    """What all groups that were drawn show, also those that are not trained on; `seconds` of wall time they took."""
    rollouts = [r for g in groups for r in g.rollouts]
    counted = [r for r in rollouts if r.reward is not None]
    tally = Tally()
    _rewards(tally, groups, counted)
    _filtering(tally, groups, counted)
    _endings(tally, rollouts)
    _lengths(tally, counted)
    _tools(tally, [turn for r in counted for turn in r.turns])
    _times(tally, groups, counted)
    sampled = sum(r.num_sampled_tokens for r in rollouts)
    tally.add("perf/sampled_tokens_per_s", sampled, seconds)
    return tally.metrics()


def step_time_metrics(
    *, step_s: float, collect_s: float, update_s: float, engine_busy_s: float, generate_s: float
) -> dict[str, Metric]:
    """Where a step's wall time went, from its first draw to its event; sync, evaluation and checkpoint come after that.

    The trainer idles while it waits for rollouts, the engine while no completion is in flight. `generate_s`: the sum over
    all completions, so that concurrency is the mean number in flight while there was any.
    """
    other_s = max(0.0, step_s - collect_s - update_s)
    return {
        "time/step_s": (step_s, 1.0),
        "time/collect_s": (collect_s, 1.0),
        "time/update_s": (update_s, 1.0),
        "time/other_s": (other_s, 1.0),
        "idle/trainer": (collect_s + other_s, step_s),
        "idle/engine": (max(0.0, step_s - engine_busy_s), step_s),
        "engine/concurrency": (generate_s, engine_busy_s),
    }


def _rewards(tally: Tally, groups: Sequence[ScoredGroup], counted: Sequence[Rollout]) -> None:
    rewards = [r.reward for r in counted if r.reward is not None]
    mean = statistics.fmean(rewards) if rewards else 0.0
    tally.add("reward/mean", sum(rewards), len(rewards))
    squares = sum((reward - mean) ** 2 for reward in rewards)
    tally.add("reward/std", squares**0.5, max(len(rewards), 1) ** 0.5)
    rates = [rate for group in groups if (rate := group.solve_rate) is not None]
    tally.add("solved/none", sum(rate == 0 for rate in rates), len(rates))
    tally.add("solved/some", sum(0 < rate < 1 for rate in rates), len(rates))
    tally.add("solved/all", sum(rate == 1 for rate in rates), len(rates))
    tally.add("groups/trained", sum(g.trained for g in groups), len(groups))
    advantages = [a for g in groups for a in g.advantages]
    tally.add("advantage/mean", sum(advantages), len(counted))
    tally.add("advantage/abs_mean", sum(map(abs, advantages)), len(counted))
    tally.add("advantage/min", min(advantages, default=0.0), 1.0)
    tally.raise_to("advantage/max", max(advantages, default=0.0))


def _filtering(tally: Tally, groups: Sequence[ScoredGroup], counted: Sequence[Rollout]) -> None:
    """What compact filtering takes out of the loss, and how much of what was solved is in it."""
    pairs = ((f, r) for g in groups for f, r in zip(g.filtered, g.rollouts, strict=True))
    rewards = [r.reward for f, r in pairs if f and r.reward is not None]
    tally.add("filtered/fraction", len(rewards), len(counted))
    tally.add("filtered/reward", sum(rewards), len(rewards))
    tally.add("filtered/solved", sum(rewards), sum(r.reward or 0.0 for r in counted))


def _endings(tally: Tally, rollouts: Sequence[Rollout]) -> None:
    count = len(rollouts)
    for reason, number in Counter(r.termination_reason for r in rollouts).items():
        tally.add(f"termination/{reason}", number, count)
    tally.add("truncated/fraction", sum(r.termination_reason in CUT_SHORT for r in rollouts), count)
    tally.add("outcome/infra", sum(r.reward is None for r in rollouts), count)
    tally.add("outcome/agent_fault", sum(r.outcome == "agent_fault" for r in rollouts), count)


def _lengths(tally: Tally, counted: Sequence[Rollout]) -> None:
    count = len(counted)
    tally.add("tokens/prompt", sum(len(r.prompt_ids) for r in counted), count)
    _spread(tally, "tokens/sampled", [r.num_sampled_tokens for r in counted])
    _spread(tally, "tokens/response", [len(r.response_ids) for r in counted])
    observed = sum(len(r.response_ids) - r.num_sampled_tokens for r in counted)
    tally.add("tokens/observed", observed, count)
    for name, reward in (("solved", 1.0), ("unsolved", 0.0)):
        lengths = [len(r.response_ids) for r in counted if r.reward == reward]
        tally.add(f"tokens/response_{name}", sum(lengths), len(lengths))
    _spread(tally, "turns", [len(r.turns) for r in counted], mean="turns/mean")


def _tools(tally: Tally, turns: Sequence[Turn]) -> None:
    """A call is malformed (it cannot be read), refused (it can be read and not run), or its tool exits with an error."""
    count = len(turns)
    tally.add("tool/error_rate", sum(bool(t.error) for t in turns), count)
    tally.add("tool/malformed_rate", sum(bool(t.error) and t.action is None for t in turns), count)
    tally.add("tool/refused_rate", sum(bool(t.error) and bool(t.action) for t in turns), count)
    tally.add("tool/exit_code_rate", sum(bool(t.exit_code) for t in turns), count)


def _times(tally: Tally, groups: Sequence[ScoredGroup], counted: Sequence[Rollout]) -> None:
    """Seconds a rollout by what it was doing; a rollout's own wall time is without its grading."""
    count = len(counted)
    turns = [turn for r in counted for turn in r.turns]
    tally.add("flags/fraction", sum(bool(r.flags) for r in counted), count)
    tally.add("time/sandbox_start_s", sum(r.start_s for r in counted), count)
    tally.add("time/generate_s", sum(t.generate_s for t in turns), count)
    tally.add("time/tool_s", sum(t.tool_s for t in turns), count)
    tally.add("time/grade_s", sum(r.grade_s for r in counted), count)
    for name, values in (
        ("time/sandbox_start_s", [r.start_s for r in counted]),
        ("time/tool_call_s", [t.tool_s for t in turns]),
        ("time/grade_s", [r.grade_s for r in counted]),
        ("time/rollout_s", [r.seconds for r in counted]),
    ):
        _quantile(tally, f"{name}_p50", values, 0.50)
        _quantile(tally, f"{name}_p95", values, 0.95)
    tally.raise_to("time/rollout_s_max", max((r.seconds for r in counted), default=0.0))
    for group in groups:
        seconds = [r.seconds for r in group.rollouts if r.reward is not None]
        if len(seconds) > 1 and (mean := statistics.fmean(seconds)):
            tally.add("time/group_spread", statistics.pstdev(seconds) / mean, 1.0)


def _spread(tally: Tally, name: str, values: Sequence[float], mean: str = "") -> None:
    tally.add(mean or name, sum(values), len(values))
    _quantile(tally, f"{name}_p90", values, 0.90)
    tally.raise_to(f"{name}_max", max(values, default=0.0))


def _quantile(tally: Tally, name: str, values: Iterable[float], share: float) -> None:
    """The smallest value that at least `share` of all do not exceed (nearest rank); nothing of nothing."""
    ordered = sorted(values)
    if ordered:
        tally.add(name, ordered[math.ceil(share * len(ordered)) - 1], 1.0)
