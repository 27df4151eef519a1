"""Choosing among a task's rollouts: baselines without a model, and rules over what verifiers say. Pure and light.

Scores come one for every rollout, in the rollouts' order; a rule that looks at the k rollouts together gives the places of
those that it likes best, of which one is then taken at random. `trainer.evaluations.estimates` turns either into best@k.

R2E-Gym (arXiv 2504.07164, section 4.3, equations 1 and 2) and its code (`create_bestofn_aggregate.py`) combine an
execution-free score and test counts differently; both rules are here, by name. n, how many of k the execution-free score lets
through, is k // 2 as in the code, and at least 1; the paper does not say its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sandbox.grading.counts import Counts


class Patch(NamedTuple):
    """As much of a patch as choosing needs."""

    digest: str
    """Equal for equal patches."""
    size: int
    """0 when nothing changed."""


def shortest_patch_scores(patches: Sequence[Patch]) -> list[tuple[bool, int]]:
    """Higher is better: the shortest patch that changes anything."""
    return [(patch.size > 0, -patch.size) for patch in patches]


def agreement_votes(patches: Sequence[Patch]) -> list[str | None]:
    """Rollouts with the same patch vote for it together; one that changed nothing has no vote."""
    return [patch.digest if patch.size else None for patch in patches]


Rule = Callable[[Sequence[float], Sequence[Counts]], list[int]]
"""Execution-free scores and test counts of k rollouts -> the places of the best, in their order."""


def execution_scores(counts: Sequence[Counts]) -> list[int]:
    """Equation 1: reproduction tests passed by those that keep the most regression tests, 0 for all others.

    The code keeps only those with the most regression tests instead, which is the order of `Counts` itself.
    """
    most = max(count.regression for count in counts)
    return [count.reproduction if count.regression == most else 0 for count in counts]


def hybrid_of_paper(scores: Sequence[float], counts: Sequence[Counts]) -> list[int]:
    """Equation 2: the execution-free score of the n best by it, minus infinity for the rest, plus equation 1's."""
    kept = set(_first_half(scores))
    executed = execution_scores(counts)
    return _best(range(len(scores)), lambda i: (i in kept, scores[i] + executed[i]))


def hybrid_of_code(scores: Sequence[float], counts: Sequence[Counts]) -> list[int]:
    """Of the n best by the execution-free score: the most regression tests, the most reproduction tests, that score."""
    return _best(_first_half(scores), lambda i: (*counts[i], scores[i]))


HYBRIDS: Mapping[str, Rule] = {"paper": hybrid_of_paper, "code": hybrid_of_code}


def _first_half(scores: Sequence[float]) -> list[int]:
    """Places of the n best, in their order; those that equal the n-th are let through too."""
    least = sorted(scores, reverse=True)[max(1, len(scores) // 2) - 1]
    return [place for place, score in enumerate(scores) if score >= least]


def _best(places: Sequence[int], key: Callable[[int], Any]) -> list[int]:
    most = max(map(key, places))
    return [place for place in places if key(place) == most]
