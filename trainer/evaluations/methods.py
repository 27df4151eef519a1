"""Every way to choose one of k rollouts, side by side: best@k of each, and what it gains over the others. Light.

A method's values are task -> best@k for k = 1..n. Two methods are compared at the largest k that every task has, on the
same rollouts, by the paired bootstrap over tasks. A random choice is the baseline: pass@1, whatever k is.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any, NamedTuple
from uuid import UUID

from sandbox.grading.counts import Counts
from trainer.evaluations.comparison import Difference, bootstrap_difference
from trainer.evaluations.counts import UNCOUNTED
from trainer.evaluations.estimates import best_at_k_by_rule, best_by_score, best_by_vote
from trainer.evaluations.scores import UNKNOWN
from trainer.evaluations.selection import (
    HYBRIDS,
    Patch,
    Rule,
    agreement_votes,
    shortest_patch_scores,
)
from trainer.evaluations.summary import SHORTEST, VOTE, RolloutRow, by_task

RANDOM = "random"
BASELINES = (RANDOM, SHORTEST, VOTE)

MAX_CHOICES = 40_000
"""A rule that looks at k rollouts together is asked about so many subsets at most, over all tasks and k."""

Scores = Mapping[str, Mapping[UUID, float]]
"""Verifier -> rollout -> its score."""
TestCounts = Mapping[str, Mapping[UUID, Counts]]
"""Verifier that runs tests -> rollout -> how many hold."""
Groups = Mapping[str, Sequence[RolloutRow]]
Values = dict[str, list[float]]
"""task -> best@k for k = 1..n."""


class Method(NamedTuple):
    """A way to choose, and what it is worth."""

    name: str
    curve: list[float]
    """best@k for k = 1, 2, ..., the mean over tasks."""
    gains: dict[str, Difference]
    """Baseline -> how much better at the largest k; a baseline has none over itself."""

    @property
    def best(self) -> float:
        """best@k at the largest k."""
        return self.curve[-1]

    @property
    def gains_in_order(self) -> list[Difference | None]:
        """Over each of `BASELINES`."""
        return [self.gains.get(baseline) for baseline in BASELINES]


def methods(
    rows: Sequence[RolloutRow], scores: Scores, counts: TestCounts | None = None
) -> list[Method]:
    """The baselines, each verifier by name, and each hybrid of two; empty while nothing has a reward."""
    groups = by_task(row for row in rows if row.reward is not None)
    if not groups:
        return []
    max_k = min(map(len, groups.values()))
    values = _baselines(groups)
    values |= {name: _by_score(groups, known, UNKNOWN) for name, known in scores.items()}
    values |= {name: _by_score(groups, known, UNCOUNTED) for name, known in (counts or {}).items()}
    for name, rule, judge, tests in _hybrids(scores, counts or {}):
        values[name] = _by_rule(groups, rule, judge, tests, max_k)
    at_k = {name: _at(per_task, max_k) for name, per_task in values.items()}
    return [
        Method(name, _curve(per_task, max_k), _gains(name, at_k))
        for name, per_task in values.items()
    ]


def _baselines(groups: Groups) -> dict[str, Values]:
    found: dict[str, Values] = {name: {} for name in BASELINES}
    for task, group in groups.items():
        rewards = [row.reward or 0.0 for row in group]
        patches = [Patch(row.patch_digest, row.patch_size) for row in group]
        found[RANDOM][task] = [fmean(rewards)] * len(rewards)
        found[SHORTEST][task] = best_by_score(rewards, shortest_patch_scores(patches))
        found[VOTE][task] = best_by_vote(rewards, agreement_votes(patches))
    return found


def _by_score(groups: Groups, scores: Mapping[UUID, Any], unknown: Any) -> Values:
    return {
        task: best_by_score(
            [row.reward or 0.0 for row in group],
            [scores.get(row.rollout, unknown) for row in group],
        )
        for task, group in groups.items()
    }


class Hybrid(NamedTuple):
    name: str
    rule: Rule
    judge: Mapping[UUID, float]
    tests: Mapping[UUID, Counts]


def _hybrids(scores: Scores, counts: TestCounts) -> Iterator[Hybrid]:
    """Of every verifier that judges with every one that runs tests, by every rule."""
    for (judge, known), (tests, counted) in product(scores.items(), counts.items()):
        for rule, choose in HYBRIDS.items():
            yield Hybrid(f"{judge} + {tests}, {rule}'s hybrid", choose, known, counted)


def _by_rule(
    groups: Groups,
    rule: Rule,
    judge: Mapping[UUID, float],
    tests: Mapping[UUID, Counts],
    max_k: int,
) -> Values:
    max_subsets = max(4, MAX_CHOICES // (len(groups) * max_k))
    found: Values = {}
    for task, group in groups.items():
        rewards = [row.reward or 0.0 for row in group]
        scores = [judge.get(row.rollout, UNKNOWN) for row in group]
        counts = [tests.get(row.rollout, UNCOUNTED) for row in group]

        def choose(
            drawn: Sequence[int],
            scores: Sequence[float] = scores,
            counts: Sequence[Counts] = counts,
        ) -> list[int]:
            best = rule([scores[i] for i in drawn], [counts[i] for i in drawn])
            return [drawn[place] for place in best]

        found[task] = [
            best_at_k_by_rule(rewards, choose, k, max_subsets=max_subsets)
            for k in range(1, max_k + 1)
        ]
    return found


def _curve(values: Values, max_k: int) -> list[float]:
    return [fmean(_at(values, k).values()) for k in range(1, max_k + 1)]


def _at(values: Values, k: int) -> dict[str, float]:
    return {task: of_k[k - 1] for task, of_k in values.items()}


def _gains(name: str, at_k: Mapping[str, Mapping[str, float]]) -> dict[str, Difference]:
    found = {
        baseline: bootstrap_difference(at_k[baseline], at_k[name])
        for baseline in BASELINES
        if baseline != name
    }
    return {baseline: gain for baseline, gain in found.items() if gain}
