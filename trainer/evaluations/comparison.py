"""Is one evaluation better than another, on the tasks that both have? Pure and light: standard library only.

Two paired answers. McNemar's exact test (Psychometrika 12, 1947; the exact form is a binomial test of the tasks on which
the two differ) asks whether the second wins more tasks than it loses. The bootstrap over tasks (Efron and Tibshirani, 1993,
percentile interval) says by how much the means differ. The task is what is drawn, never the rollout: rollouts of one
task go together.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from random import Random
from statistics import fmean
from typing import NamedTuple

from trainer.evaluations.estimates import Interval

RESAMPLES = 2000

Resample = Callable[[Sequence[float]], Sequence[float]]
"""One value a task -> as many, drawn with replacement."""


class McNemar(NamedTuple):
    """How many tasks each side wins, and how likely a difference as large is when neither is better."""

    first_wins: int
    second_wins: int
    ties: int
    p_value: float


class Difference(NamedTuple):
    """The second's mean minus the first's, over tasks."""

    value: float
    interval: Interval
    num_tasks: int


def mcnemar(first: Mapping[str, float], second: Mapping[str, float]) -> McNemar:
    """Exact, two-sided, over the tasks that both name: task -> solved (0 or 1) or solve rate.

    With one rollout a task it is McNemar's test. With more, a task is won by the higher rate, and it is the sign test,
    whose arithmetic is the same.
    """
    shared = first.keys() & second.keys()
    first_wins = sum(first[task] > second[task] for task in shared)
    second_wins = sum(first[task] < second[task] for task in shared)
    discordant = first_wins + second_wins
    tail = sum(math.comb(discordant, i) for i in range(min(first_wins, second_wins) + 1))
    p_value = min(1.0, 2 * tail / 2**discordant)
    return McNemar(first_wins, second_wins, len(shared) - discordant, p_value)


def bootstrap_difference(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference | None:
    """The paired bootstrap over the tasks that both name; None when there is none.

    task -> any number that is averaged over tasks: solve rate, pass@k, best@k, seconds.
    """
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return None
    differences = [second[task] - first[task] for task in shared]
    interval = bootstrap(differences, fmean, confidence=confidence, resamples=resamples, seed=seed)
    return Difference(fmean(differences), interval, len(shared))


def bootstrap(
    values: Sequence[float],
    statistic: Callable[[Sequence[float]], float],
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The percentile interval of `statistic` over resamples of `values`, one value a task."""
    drawn = sorted(statistic(draw(values)) for draw in _resamples(len(values), resamples, seed))
    tail = (1 - confidence) / 2
    return Interval(
        drawn[math.floor(tail * (resamples - 1))], drawn[math.ceil((1 - tail) * (resamples - 1))]
    )


@lru_cache(maxsize=4)
def _resamples(size: int, resamples: int, seed: int) -> tuple[Resample, ...]:
    """What draws each resample. Kept: a page compares many methods on the same tasks, and drawing the places takes longest."""
    random, places = Random(seed), list(range(size))
    if size == 1:
        # an `itemgetter` of one place gives no sequence
        return (tuple,) * resamples
    return tuple(itemgetter(*random.choices(places, k=size)) for _ in range(resamples))
