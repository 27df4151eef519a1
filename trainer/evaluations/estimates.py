"""What graded rollouts say about a policy: pass@k, best@k, pass@1 and how sure it is. Pure and light: standard library only.

A task's rewards are a list of n numbers in [0, 1], one a rollout, INFRA left out by the caller. pass@k is the unbiased
estimator of Chen et al. (arXiv 2107.03374, equation 1). best@k is the expected reward of the rollout that a selection
score picks from a random k of the n: the same combinatorics, summed over the score's levels; we know of no other source.
How two evaluations compare is `trainer.evaluations.comparison`'s; where scores come from, `trainer.verify`'s.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from itertools import combinations, groupby
from random import Random
from statistics import NormalDist, fmean, variance
from typing import Any, NamedTuple

Rewards = Mapping[str, Sequence[float]]
"""task -> the reward of each of its rollouts."""
Choose = Callable[[Sequence[int]], Sequence[int]]
"""Indices of k rollouts -> those of them that a rule likes best; one of these is taken at random."""


class Interval(NamedTuple):
    low: float
    high: float


class Estimate(NamedTuple):
    """A share of 1, with its interval."""

    value: float
    interval: Interval
    num_tasks: int
    num_rollouts: int


def pass_at_k(num_rollouts: int, num_solved: int, k: int) -> float:
    """The probability that at least one of k rollouts, drawn without replacement from n, solves the task.

    1 - C(n - c, k) / C(n, k). Raises ValueError unless 1 <= k <= n and 0 <= c <= n.
    """
    if not (1 <= k <= num_rollouts and 0 <= num_solved <= num_rollouts):
        raise ValueError(
            f"n={num_rollouts}, c={num_solved}, k={k}: needs 1 <= k <= n and 0 <= c <= n"
        )
    return 1 - math.comb(num_rollouts - num_solved, k) / math.comb(num_rollouts, k)


def best_at_k(rewards: Sequence[float], scores: Sequence[Any], k: int) -> float:
    """Of `best_by_score` the value at k. Raises ValueError unless 1 <= k <= n = len(scores)."""
    if not (len(scores) == len(rewards) and 1 <= k <= len(rewards)):
        raise ValueError(
            f"{len(rewards)} rewards, {len(scores)} scores, k={k}: needs as many, and 1 <= k <= n"
        )
    return best_by_score(rewards, scores)[k - 1]


def best_by_score(rewards: Sequence[float], scores: Sequence[Any]) -> list[float]:
    """best@k for k = 1..n: the expected reward of the highest-scored of k rollouts, ties broken at random.

    The k are drawn without replacement from the n. `scores` are of any ordered type (numbers, tuples). A level of m equal
    scores with b rollouts below it holds the highest of the k with probability (C(b + m, k) - C(b, k)) / C(n, k), and then
    each of its m with the same. A score that equals the reward gives pass@k; a constant one pass@1.
    """
    n = len(rewards)
    ranked = sorted(zip(scores, rewards, strict=True), key=lambda pair: pair[0])
    expected, below = [0.0] * n, 0
    for _, level in groupby(ranked, key=lambda pair: pair[0]):
        tied = [reward for _, reward in level]
        mean = fmean(tied)
        for k in range(1, n + 1) if mean else ():
            picks = math.comb(below + len(tied), k) - math.comb(below, k)
            expected[k - 1] += picks / math.comb(n, k) * mean
        below += len(tied)
    return expected


MAX_SUBSETS = 2000


def best_at_k_by_rule(
    rewards: Sequence[float],
    choose: Choose,
    k: int,
    *,
    seed: int = 0,
    max_subsets: int = MAX_SUBSETS,
) -> float:
    """As `best_at_k`, for a rule that looks at the k rollouts together (a vote), so that no score of one rollout gives it.

    Exact over all subsets when there are at most `max_subsets`; else the mean over so many random ones.
    """
    n = len(rewards)
    if not 1 <= k <= n:
        raise ValueError(f"{n} rewards, k={k}: needs 1 <= k <= n")
    subsets: Any = combinations(range(n), k)
    if math.comb(n, k) > max_subsets:
        random = Random(seed)
        subsets = (random.sample(range(n), k) for _ in range(max_subsets))
    return fmean(fmean(rewards[i] for i in choose(subset)) for subset in subsets)


def best_by_vote(rewards: Sequence[float], votes: Sequence[Hashable | None]) -> list[float]:
    """best@k for k = 1..n when the most frequent vote among the k wins, ties broken at random; None votes for nothing.

    Exact. Rollouts of one vote share their mean reward; those without a vote win only when nobody has one.
    """
    n = len(rewards)
    rewards_of: dict[Hashable, list[float]] = {}
    for vote, reward in zip(votes, rewards, strict=True):
        rewards_of.setdefault(vote, []).append(reward)
    silent = rewards_of.pop(None, [])
    shares = _winning_shares(tuple(sorted(map(len, rewards_of.values()))), len(silent))
    expected = [0.0] * n
    for tied in (tied for tied in rewards_of.values() if any(tied)):
        mean = fmean(tied)
        for place, share in enumerate(shares[len(tied)]):
            expected[place] += mean * share
    for k in range(1, len(silent) + 1):
        expected[k - 1] += math.comb(len(silent), k) / math.comb(n, k) * fmean(silent)
    return expected


@lru_cache(maxsize=4096)
def _winning_shares(sizes: tuple[int, ...], num_silent: int) -> dict[int, list[float]]:
    """Rollouts of a vote -> the probability that this vote wins, for k = 1..n. `sizes` are of all votes, ascending.

    Kept: it asks for no reward, and the tasks of an evaluation share few patterns of agreement.
    """
    n = sum(sizes) + num_silent
    shares = {}
    for size in set(sizes):
        others = list(sizes)
        others.remove(size)
        won = [0.0] * (n + 1)
        for count in range(1, size + 1):
            for (drawn, num_tied), ways in _draws(others, num_silent, count).items():
                won[drawn + count] += math.comb(size, count) * ways / (num_tied + 1)
        shares[size] = [won[k] / math.comb(n, k) for k in range(1, n + 1)]
    return shares


def _draws(sizes: Sequence[int], num_silent: int, count: int) -> dict[tuple[int, int], int]:
    """(rollouts drawn, votes that have `count` of them) -> in how many ways, when no vote has more than `count`."""
    draws = {(drawn, 0): math.comb(num_silent, drawn) for drawn in range(num_silent + 1)}
    for size in sizes:
        longer: dict[tuple[int, int], int] = {}
        for (drawn, num_tied), ways in draws.items():
            for taken in range(min(size, count) + 1):
                key = drawn + taken, num_tied + (taken == count)
                longer[key] = longer.get(key, 0) + math.comb(size, taken) * ways
        draws = longer
    return draws


def curve(values: Callable[[int], Sequence[float]], max_k: int) -> list[float]:
    """The mean over tasks for k = 1..max_k; `values` gives each task's at k."""
    return [fmean(values(k)) for k in range(1, max_k + 1)]


def pass_curve(rewards: Rewards, max_k: int = 0) -> list[float]:
    """pass@k for k = 1..max_k, the mean over tasks; a reward of 1 counts as solved.

    Without `max_k`, up to the fewest rollouts that a task has. Tasks without a rollout count nowhere; empty if none is left.
    """
    counted = [values for values in rewards.values() if values]
    max_k = max_k or min(map(len, counted), default=0)
    return curve(lambda k: [pass_at_k(len(v), sum(r >= 1 for r in v), k) for v in counted], max_k)


def best_curve(
    rewards: Rewards, scores: Mapping[str, Sequence[Any]], max_k: int = 0
) -> list[float]:
    """best@k for k = 1..max_k, the mean over tasks; `scores` stand in the order of the rewards."""
    counted = [best_by_score(values, scores[task]) for task, values in rewards.items() if values]
    max_k = max_k or min(map(len, counted), default=0)
    return curve(lambda k: [values[k - 1] for values in counted], max_k)


def vote_curve(
    rewards: Rewards, votes: Mapping[str, Sequence[Hashable | None]], max_k: int = 0
) -> list[float]:
    """best@k by vote for k = 1..max_k, the mean over tasks; `votes` stand in the order of the rewards."""
    counted = [best_by_vote(values, votes[task]) for task, values in rewards.items() if values]
    max_k = max_k or min(map(len, counted), default=0)
    return curve(lambda k: [values[k - 1] for values in counted], max_k)


def pass_at_1(rewards: Rewards, *, confidence: float = 0.95) -> Estimate | None:
    """The mean over tasks of their mean reward, with an interval clustered by task; None when no task has a rollout.

    The standard error is that of the task means (Miller, arXiv 2411.00640, section 2.2: rollouts of one task are one
    cluster, tasks are drawn at random). The interval is Wilson's at the effective sample size p (1 - p) / SE^2, at most the
    number of rollouts (Korn and Graubard, Survey Methodology 24, 1998), because the normal interval is empty when all
    tasks agree and leaves [0, 1] near its ends. All solved or none: as many as there are tasks.
    """
    means = [fmean(values) for values in rewards.values() if values]
    if not means:
        return None
    num_rollouts = sum(len(values) for values in rewards.values())
    value = fmean(means)
    squared_error = variance(means) / len(means) if len(means) > 1 else 0.0
    if value in (0.0, 1.0) or len(means) == 1:
        effective = float(len(means))
    else:
        spread = value * (1 - value)
        effective = min(spread / squared_error, num_rollouts) if squared_error else num_rollouts
    return Estimate(value, wilson(value, effective, confidence), len(means), num_rollouts)


def wilson(share: float, size: float, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share among `size` independent draws (JASA 22, 1927)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    scale = 1 + z * z / size
    centre = (share + z * z / (2 * size)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / size + (z / (2 * size)) ** 2)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def auc(rewards: Sequence[float], scores: Sequence[float]) -> float | None:
    """The probability that a solved rollout scores above an unsolved one, ties counted half (Mann and Whitney, 1947).

    A reward of 1 counts as solved. None when all are solved or none.
    """
    ranked = sorted(zip(scores, rewards, strict=True), key=lambda pair: pair[0])
    num_solved = sum(reward >= 1 for reward in rewards)
    num_pairs = num_solved * (len(rewards) - num_solved)
    if not num_pairs:
        return None
    won, unsolved_below = 0.0, 0
    for _, level in groupby(ranked, key=lambda pair: pair[0]):
        solved = [reward >= 1 for _, reward in level]
        unsolved = len(solved) - sum(solved)
        won += sum(solved) * (unsolved_below + unsolved / 2)
        unsolved_below += unsolved
    return won / num_pairs


def brier(rewards: Sequence[float], scores: Sequence[float]) -> float:
    """Mean squared difference of score and outcome (Brier, 1950): 0 is perfect, 0.25 is always saying one half."""
    return fmean((score - reward) ** 2 for reward, score in zip(rewards, scores, strict=True))


def calibration_error(
    rewards: Sequence[float], scores: Sequence[float], *, bins: int = 10
) -> float:
    """Expected calibration error (arXiv 1706.04599): the mean gap of score and solve rate over bins of equal width."""
    pairs = sorted(zip(scores, rewards, strict=True), key=lambda pair: pair[0])
    gaps = 0.0
    for _, binned in groupby(pairs, key=lambda pair: min(int(pair[0] * bins), bins - 1)):
        members = list(binned)
        gaps += abs(sum(score - reward for score, reward in members))
    return gaps / len(pairs)
