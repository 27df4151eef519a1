"""The paired test and the paired bootstrap against numbers computed by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluations.comparison import bootstrap_difference, mcnemar


def test_mcnemar_is_the_exact_binomial_test_of_the_tasks_that_differ() -> None:
    first = {f"lost-{i}": 1.0 for i in range(2)} | {f"won-{i}": 0.0 for i in range(8)}
    second = {task: 1 - value for task, value in first.items()}
    both = {f"both-{i}": 1.0 for i in range(5)}
    found = mcnemar(first | both | {"only here": 1.0}, second | both)
    assert found[:3] == (2, 8, 5)
    # 2 (1 + 10 + 45) / 2^10
    assert found.p_value == pytest.approx(112 / 1024)


def test_two_that_never_differ_are_no_evidence() -> None:
    assert mcnemar({"a": 1.0}, {"a": 1.0}).p_value == 1.0
    assert mcnemar({}, {}).p_value == 1.0
    assert mcnemar({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}).p_value == 1.0


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=30))
def test_both_are_antisymmetric(pairs: list[tuple[int, int]]) -> None:
    first = {str(i): a / 8 for i, (a, _) in enumerate(pairs)}
    second = {str(i): b / 8 for i, (_, b) in enumerate(pairs)}
    there, back = mcnemar(first, second), mcnemar(second, first)
    assert (there.first_wins, there.p_value) == (back.second_wins, back.p_value)
    one = bootstrap_difference(first, second, resamples=200)
    other = bootstrap_difference(second, first, resamples=200)
    assert one is not None
    assert other is not None
    assert one.value == pytest.approx(-other.value)
    assert one.interval == pytest.approx((-other.interval.high, -other.interval.low))


def test_the_bootstrap_finds_a_difference_that_is_there_and_none_that_is_not() -> None:
    first = {str(i): float(i % 3 == 0) for i in range(120)}
    better = {task: 1.0 if int(task) % 3 < 2 else 0.0 for task in first}
    found = bootstrap_difference(first, better)
    assert found is not None
    assert found.value == pytest.approx(1 / 3)
    # the normal interval of 120 paired differences, a third of them 1, the others 0
    assert found.interval.low == pytest.approx(1 / 3 - 1.96 * 0.0432, abs=0.02)
    same = bootstrap_difference(first, first)
    assert same is not None
    assert same.interval == (0.0, 0.0)
    assert bootstrap_difference({"a": 1.0}, {"b": 1.0}) is None
