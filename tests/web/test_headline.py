"""The numbers at the top of a run's page, by hand."""

from datetime import UTC, datetime

import pytest

from webapp.runs.headline import evaluations_left, headline
from webapp.runs.models import Run, RunEvaluation


def evaluations(*points: tuple[int, float]) -> list[RunEvaluation]:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        RunEvaluation(step=step, time=now, mean_reward=reward, seconds=0.0)
        for step, reward in points
    ]


@pytest.mark.parametrize(
    ("every", "done", "left"), [(0, 3, 0), (8, 3, 3), (8, 8, 2), (8, 17, 1), (8, 20, 0)]
)
def test_evaluations_to_come_are_those_that_are_due_and_one_after_the_last_step(
    every: int, done: int, left: int
):
    run = Run(num_steps=20, current_step=done, config={"evaluation": {"every_steps": every}})
    assert evaluations_left(run) == left


@pytest.mark.parametrize(
    ("points", "now", "change"),
    [
        ([], None, None),
        ([(0, 0.25)], 0.25, None),
        ([(0, 0.25), (8, 0.5), (16, 0.75)], 0.75, 0.5),
        ([(8, 0.5), (16, 0.75)], 0.75, None),
    ],
)
def test_a_held_out_score_is_set_beside_that_of_the_untrained_policy_alone(
    points: list[tuple[int, float]], now: float | None, change: float | None
):
    shown = headline(Run(num_steps=16), [], evaluations(*points))
    assert (shown.heldout, shown.heldout_change) == (now, change)
