"""Rules that choose by tests and scores together: against their definitions, by hand and by property."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.grading.counts import Counts
from trainer.evaluations.estimates import best_at_k_by_rule
from trainer.evaluations.selection import (
    HYBRIDS,
    Rule,
    execution_scores,
    hybrid_of_code,
    hybrid_of_paper,
)

rollouts = st.lists(
    st.tuples(
        st.sampled_from([0.1, 0.4, 0.9]), st.builds(Counts, st.integers(0, 3), st.integers(0, 3))
    ),
    min_size=1,
    max_size=8,
)
rules = st.sampled_from(list(HYBRIDS.values()))


def split(pairs: Sequence[tuple[float, Counts]]) -> tuple[list[float], list[Counts]]:
    return [score for score, _ in pairs], [counts for _, counts in pairs]


def by_steps(scores: list[float], counts: list[Counts]) -> list[int]:
    """R2E-Gym's code, step by step: top n, most regression, most reproduction, highest score."""
    n = max(1, len(scores) // 2)
    least = sorted(scores)[-n]
    places = [i for i, score in enumerate(scores) if score >= least]
    for key in (
        lambda i: counts[i].regression,
        lambda i: counts[i].reproduction,
        scores.__getitem__,
    ):
        most = max(key(i) for i in places)
        places = [i for i in places if key(i) == most]
    return places


def by_equations(scores: list[float], counts: list[Counts]) -> list[int]:
    """R2E-Gym's paper, equations 1 and 2."""
    n = max(1, len(scores) // 2)
    least = sorted(scores)[-n]
    most = max(count.regression for count in counts)
    totals = [
        (score if score >= least else -math.inf)
        + (count.reproduction if count.regression == most else 0)
        for score, count in zip(scores, counts, strict=True)
    ]
    return [i for i, total in enumerate(totals) if total == max(totals)]


@given(rollouts)
def test_each_hybrid_is_its_definition(pairs: list[tuple[float, Counts]]) -> None:
    scores, counts = split(pairs)
    assert hybrid_of_code(scores, counts) == by_steps(scores, counts)
    assert hybrid_of_paper(scores, counts) == by_equations(scores, counts)


@given(rollouts, rules, st.randoms(use_true_random=False))
def test_what_is_chosen_does_not_depend_on_the_order(
    pairs: list[tuple[float, Counts]], rule: Rule, random
) -> None:
    scores, counts = split(pairs)
    order = random.sample(range(len(pairs)), len(pairs))
    chosen = rule([scores[i] for i in order], [counts[i] for i in order])
    assert sorted(order[place] for place in chosen) == rule(scores, counts)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=6), rules)
def test_constant_scores_and_counts_choose_at_random_and_perfect_counts_with_them_choose_right(
    rewards: list[float], rule: Rule
) -> None:
    n, mean = len(rewards), sum(rewards) / len(rewards)

    def constant(drawn: Sequence[int]) -> list[int]:
        return [drawn[i] for i in rule([0.5] * len(drawn), [Counts(2, 1)] * len(drawn))]

    def perfect(drawn: Sequence[int]) -> list[int]:
        counts = [Counts(5, int(rewards[i]) * 3) for i in drawn]
        return [drawn[i] for i in rule([0.5] * len(drawn), counts)]

    for k in range(1, n + 1):
        assert best_at_k_by_rule(rewards, constant, k) == pytest.approx(mean)
    assert best_at_k_by_rule(rewards, perfect, n) == max(rewards)


def test_the_two_rules_differ_where_the_best_by_score_break_tests() -> None:
    scores = [0.9, 0.8, 0.2, 0.1]
    counts = [Counts(3, 1), Counts(4, 0), Counts(5, 5), Counts(5, 0)]
    # the code compares regression among the two that the score lets through, the paper among all four
    assert hybrid_of_code(scores, counts) == [1]
    assert hybrid_of_paper(scores, counts) == [0]
    assert execution_scores(counts) == [0, 0, 5, 0]


def test_a_single_rollout_is_chosen() -> None:
    for rule in HYBRIDS.values():
        assert rule([0.3], [Counts(-1, -1)]) == [0]
