"""Ways to choose among rollouts, side by side: what each is worth and what it gains, against its closed form."""

from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluations.estimates import pass_curve
from trainer.evaluations.methods import BASELINES, RANDOM, methods
from trainer.evaluations.summary import RolloutRow


def row(
    task: str, number: int, reward: float | None, digest: str = "d", size: int = 9
) -> RolloutRow:
    return RolloutRow(
        task=task,
        rollout=UUID(int=number),
        termination_reason="finished",
        reward=reward,
        flags=[],
        patch_digest=digest,
        patch_size=size,
        num_turns=1,
        num_sampled_tokens=1,
        num_response_tokens=1,
        seconds=1.0,
        grade_s=1.0,
    )


outcomes = st.lists(
    st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=6), min_size=1, max_size=5
)


def rows_of(rewards: list[list[float]]) -> list[RolloutRow]:
    return [
        row(f"t/{task}", 100 * task + index, reward, digest=str(reward))
        for task, of_task in enumerate(rewards)
        for index, reward in enumerate(of_task)
    ]


@given(outcomes)
def test_a_perfect_verifier_is_worth_pass_at_k_and_a_constant_one_a_random_choice(
    rewards: list[list[float]],
) -> None:
    rows = rows_of(rewards)
    perfect = {r.rollout: r.reward or 0.0 for r in rows}
    constant = {r.rollout: 0.5 for r in rows}
    found = {m.name: m for m in methods(rows, {"perfect": perfect, "constant": constant})}
    passes = pass_curve({str(i): of_task for i, of_task in enumerate(rewards)})
    assert found["perfect"].curve == pytest.approx(passes)
    assert found["constant"].curve == pytest.approx(found[RANDOM].curve)
    assert found[RANDOM].curve == pytest.approx([passes[0]] * len(passes))
    gain = found["perfect"].gains[RANDOM]
    assert gain.value == pytest.approx(passes[-1] - passes[0])
    assert gain.interval.low <= gain.value + 1e-12
    assert gain.interval.high >= gain.value - 1e-12


@given(outcomes, st.randoms(use_true_random=False))
def test_scores_stay_with_their_rollout_in_whatever_order_they_come(
    rewards: list[list[float]], random: Random
) -> None:
    rows = rows_of(rewards)
    scores = [(r.rollout, r.rollout.int % 7 / 7) for r in rows]
    shuffled = random.sample(scores, len(scores))
    assert methods(rows, {"v": dict(scores)}) == methods(rows, {"v": dict(shuffled)})


def test_each_is_paired_with_every_other_baseline() -> None:
    rows = [
        row("t/a", 1, 1.0, "long", 80),
        row("t/a", 2, 0.0, "short", 10),
        row("t/b", 3, 0.0, "one", 50),
        row("t/b", 4, 1.0, "two", 40),
        row("t/b", 5, None),
    ]
    found = {m.name: m for m in methods(rows, {"v": {UUID(int=1): 0.9, UUID(int=2): 0.1}})}
    assert list(found) == [*BASELINES, "v"]
    # at k = 2 the shortest patch is wrong in a and right in b; a verifier without scores of b chooses at random
    assert found["shortest patch"].curve == [0.5, 0.5]
    assert found["vote"].curve == [0.5, 0.5]
    assert found["v"].curve == [0.5, 0.75]
    assert {name: gain.value for name, gain in found["v"].gains.items()} == dict.fromkeys(
        BASELINES, 0.25
    )
    assert list(found["vote"].gains) == ["random", "shortest patch"]
    assert found["v"].gains_in_order == list(found["v"].gains.values())


def test_nothing_scored_is_nothing_to_choose_from() -> None:
    assert methods([row("t/a", 1, None)], {}) == []
