"""Advantages of one group, against numbers worked out by hand."""

from collections.abc import Sequence

import pytest

from trainer.grpo.advantage import group_advantages

F, T = False, True


def test_leave_one_out_subtracts_the_mean_of_the_others() -> None:
    assert _advantages([1, 0, 0, 1]) == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])


def test_mean_subtracts_the_mean_of_all() -> None:
    assert _advantages([1, 0, 0, 0], baseline="mean") == pytest.approx(
        [3 / 4, -1 / 4, -1 / 4, -1 / 4]
    )


def test_normalising_divides_by_the_sample_deviation() -> None:
    # rewards 1, 0: deviation with ddof 1 is sqrt(1/2)
    scale = 0.5**0.5 + 1e-6
    assert _advantages([1, 0], normalize_std=True) == pytest.approx(
        [1 / scale, -1 / scale], rel=1e-12
    )


def test_equal_rewards_give_nothing_even_when_normalised() -> None:
    assert _advantages([1, 1, 1], normalize_std=True) == [0, 0, 0]


@pytest.mark.parametrize("baseline", ["leave_one_out", "mean"])
@pytest.mark.parametrize("normalize_std", [False, True])
def test_a_group_of_one_has_advantage_zero(baseline: str, normalize_std: bool) -> None:
    assert _advantages([1], baseline=baseline, normalize_std=normalize_std) == [0]


def test_an_infra_rollout_counts_nowhere() -> None:
    assert _advantages([1, None, 0]) == [1, 0, -1]
    assert _advantages([1, None]) == [0, 0]


def test_a_filtered_reward_counts_in_the_baseline_by_default() -> None:
    # the published release: two of eight solved, two of the failures filtered
    rewards, filtered = [1, 1, 0, 0, 0, 0, 0, 0], [F, F, F, F, F, F, T, T]
    assert _advantages(rewards, filtered)[:3] == pytest.approx([6 / 7, 6 / 7, -2 / 7])


def test_a_filtered_reward_can_be_left_out_of_the_group() -> None:
    rewards, filtered = [1, 1, 0, 0, 0, 0, 0, 0], [F, F, F, F, F, F, T, T]
    left_out = _advantages(rewards, filtered, filtered_in_baseline=False)
    assert left_out == pytest.approx([0.8, 0.8, -0.4, -0.4, -0.4, -0.4, 0, 0])


def _advantages(
    rewards: Sequence[float | None],
    filtered: list[bool] | None = None,
    *,
    baseline: str = "leave_one_out",
    normalize_std: bool = False,
    filtered_in_baseline: bool = True,
) -> list[float]:
    return group_advantages(
        rewards,
        filtered or [False] * len(rewards),
        baseline=baseline,  # type: ignore[arg-type]
        normalize_std=normalize_std,
        filtered_in_baseline=filtered_in_baseline,
    )
