"""pass@k, best@k and the interval of pass@1 against closed forms, enumeration and hand-computed numbers."""

import itertools
import math
from collections import Counter
from fractions import Fraction
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluations.estimates import (
    best_at_k,
    best_at_k_by_rule,
    best_by_vote,
    best_curve,
    pass_at_1,
    pass_at_k,
    pass_curve,
    wilson,
)

outcomes = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=64)


def drawn_one_by_one(n: int, c: int, k: int) -> Fraction:
    """1 minus the probability that each of k draws without replacement fails, as an exact product."""
    failing = Fraction(1)
    for drawn in range(k):
        failing *= Fraction(max(n - c - drawn, 0), n - drawn)
    return 1 - failing


def test_pass_at_k_is_the_closed_form_for_all_n_and_k_up_to_64() -> None:
    for n in range(1, 65):
        for c in range(n + 1):
            for k in range(1, n + 1):
                assert pass_at_k(n, c, k) == pytest.approx(
                    float(drawn_one_by_one(n, c, k)), abs=1e-12
                )


@given(outcomes, st.data())
def test_a_perfect_verifier_gives_pass_at_k(rewards: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(rewards)))
    expected = pass_at_k(len(rewards), int(sum(rewards)), k)
    assert best_at_k(rewards, rewards, k) == pytest.approx(expected, abs=1e-12)


@given(outcomes, st.data())
def test_a_constant_verifier_gives_pass_at_1(rewards: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(rewards)))
    constant = [0.5] * len(rewards)
    assert best_at_k(rewards, constant, k) == pytest.approx(fmean(rewards), abs=1e-12)
    everybody = best_at_k_by_rule(rewards[:6], lambda subset: subset, min(k, len(rewards[:6])))
    assert everybody == pytest.approx(fmean(rewards[:6]), abs=1e-12)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 3)), min_size=1, max_size=9))
def test_best_at_k_is_the_mean_over_every_subset_with_ties_shared(
    rollouts: list[tuple[float, int]],
) -> None:
    rewards, scores = [r for r, _ in rollouts], [s for _, s in rollouts]

    def highest(subset: object) -> list[int]:
        indices = list(subset)  # type: ignore[call-overload]
        return [i for i in indices if scores[i] == max(scores[j] for j in indices)]

    for k in range(1, len(rollouts) + 1):
        subsets = list(itertools.combinations(range(len(rollouts)), k))
        assert len(subsets) == math.comb(len(rollouts), k)
        by_hand = fmean(fmean(rewards[i] for i in highest(subset)) for subset in subsets)
        assert best_at_k(rewards, scores, k) == pytest.approx(by_hand, abs=1e-12)
        assert best_at_k_by_rule(rewards, highest, k) == pytest.approx(by_hand, abs=1e-12)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 5)), min_size=1, max_size=20),
    st.randoms(use_true_random=False),
)
def test_the_order_of_rollouts_changes_nothing(
    rollouts: list[tuple[float, int]], random: object
) -> None:
    shuffled = list(rollouts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for k in (1, len(rollouts)):
        before = best_at_k([r for r, _ in rollouts], [s for _, s in rollouts], k)
        after = best_at_k([r for r, _ in shuffled], [s for _, s in shuffled], k)
        assert before == pytest.approx(after, abs=1e-12)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([None, "a", "b", "c"])),
        min_size=1,
        max_size=9,
    )
)
def test_a_vote_is_the_mean_over_every_subset(rollouts: list[tuple[float, str | None]]) -> None:
    rewards, votes = [r for r, _ in rollouts], [v for _, v in rollouts]

    def most_frequent(subset: object) -> list[int]:
        indices = list(subset)  # type: ignore[call-overload]
        counts = Counter(votes[i] for i in indices if votes[i] is not None)
        top = max(counts.values(), default=0)
        # each winning vote is as likely as another, however many rollouts it has: one of each will do
        winners = [v for v, count in counts.items() if count == top] or [None]
        return [i for v in winners for i in indices if votes[i] == v]

    expected = [best_at_k_by_rule(rewards, most_frequent, k) for k in range(1, len(rollouts) + 1)]
    assert best_by_vote(rewards, votes) == pytest.approx(expected, abs=1e-9)


def test_scores_may_be_tuples_that_are_compared_one_after_the_other() -> None:
    rewards = [0.0, 1.0, 0.0]
    assert best_at_k(rewards, [(3, 1), (3, 2), (2, 9)], 3) == 1.0


def test_a_rule_over_many_subsets_is_sampled_by_its_seed() -> None:
    rewards = [1.0] * 10 + [0.0] * 20
    sampled = best_at_k_by_rule(rewards, lambda subset: subset, 15, seed=3)
    assert sampled == best_at_k_by_rule(rewards, lambda subset: subset, 15, seed=3)
    assert sampled == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 2, 5), (4, 5, 1), (4, 2, 0), (0, 0, 1)])
def test_pass_at_k_refuses_what_cannot_be_drawn(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="needs 1 <= k <= n"):
        pass_at_k(n, c, k)


def test_curves_are_means_over_tasks_up_to_the_fewest_rollouts() -> None:
    rewards = {"a": [1.0, 0.0, 0.0], "b": [0.0, 0.0], "c": [], "d": [1.0, 1.0]}
    assert pass_curve(rewards) == pytest.approx([(1 / 3 + 0 + 1) / 3, (2 / 3 + 0 + 1) / 3])
    scores = {"a": [0.9, 0.1, 0.2], "b": [0.1, 0.2], "d": [0.3, 0.3]}
    assert best_curve(rewards, scores) == pytest.approx([4 / 9, (2 / 3 + 0 + 1) / 3])
    assert pass_curve({}) == []


def test_pass_at_1_weighs_tasks_alike_and_its_interval_is_clustered_by_task() -> None:
    alike = {f"task-{i}": [1.0, 0.0] for i in range(50)}
    split = {f"task-{i}": [float(i % 2)] * 2 for i in range(50)}
    within, between = pass_at_1(alike), pass_at_1(split)
    assert within is not None
    assert between is not None
    assert within.value == between.value == 0.5
    # all the difference lies between tasks: as much as 49 independent draws know, not 100
    assert between.interval == pytest.approx(wilson(0.5, 49))
    assert within.interval == pytest.approx(wilson(0.5, 100))
    uneven = pass_at_1({"a": [1.0], "b": [0.0, 0.0, 0.0]})
    assert uneven is not None
    assert uneven.value == 0.5
    assert (uneven.num_tasks, uneven.num_rollouts) == (2, 4)


def test_an_interval_is_not_empty_when_nothing_or_everything_is_solved() -> None:
    nothing = pass_at_1({f"task-{i}": [0.0] * 8 for i in range(20)})
    assert nothing is not None
    # Wilson's upper end for none of 20 is z^2 / (20 + z^2)
    assert nothing.interval == pytest.approx((0.0, 3.841458820694124 / 23.841458820694124))
    assert pass_at_1({"a": []}) is None
