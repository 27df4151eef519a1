"""Which tasks are drawn when sampling runs ahead of training, with a curriculum and extra groups, and after a resume."""

from collections.abc import Sequence
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.task import Task, load_taskset
from tests.trainer.attempts import make_config, make_groups
from trainer.config import TrainConfig
from trainer.grpo.rollout import ScoredGroup
from trainer.rollouts.collect import Collection
from trainer.rollouts.resample import top_up
from trainer.rollouts.staleness import Ahead
from trainer.rollouts.task_stream import TaskStream
from trainer.training.checkpoint import Progress

POOL = load_taskset("starter").select(split="train")[:7]
NUM_STEPS = 10


def configured(max_staleness: int, **tasks: int) -> TrainConfig:
    asked = {"tasks_per_step": 2, "rest_after_visits": 1} | tasks
    return make_config(
        num_steps=NUM_STEPS, tasks=asked, rollout={"max_staleness": max_staleness, "group_size": 2}
    )


class Practice:
    """The draws of a run without models: whether a task is solved depends on task and step alone."""

    def __init__(self, config: TrainConfig, progress: Progress) -> None:
        self.config, self.progress = config, progress
        self.known: dict[int, int] = {}
        """The last step trained on when a step's tasks were drawn."""
        self.stream = TaskStream(
            pool=POOL, config=config, cursor=progress.cursor, history=progress.history
        )
        self.ahead = Ahead(
            self.stream,
            self.begin,
            step=progress.step,
            drawn=progress.drawn,
            num_steps=config.num_steps,
            max_staleness=config.rollout.max_staleness,
        )

    def begin(self, tasks: Sequence[Task], *, step: int) -> Collection:
        self.known[step] = self.progress.step
        return cast(Collection, list(tasks))

    def graded(self, tasks: Sequence[Task], step: int) -> list[ScoredGroup]:
        groups: list[ScoredGroup] = []
        for task in tasks:
            one, other = ((POOL.index(task) * step + i) % 5 // 3 for i in (0, 2))
            attempts = [("A", float(one), "finished"), ("A", float(other), "finished")]
            groups += make_groups([attempts], self.config)
            for rollout in groups[-1].rollouts:
                rollout.task_id = task.task_id
        return groups

    def take_step(self) -> list[str]:
        """The task_ids of the next step, extra ones last."""
        step = self.progress.step + 1
        tasks = cast(list[Task], self.ahead.take(step))
        batch = top_up(
            self.graded(tasks, step),
            self.stream,
            self.config.tasks,
            lambda extra: self.graded(extra, step),
        )
        self.progress = Progress(
            step=step,
            cursor=self.stream.cursor,
            history=self.stream.history,
            drawn=self.ahead.drawn,
        )
        return [group.task_id for group in batch.drawn]

    def play(self, until: int) -> list[list[str]]:
        return [self.take_step() for _ in range(self.progress.step, until)]


@settings(deadline=None)
@given(
    cut=st.integers(0, NUM_STEPS),
    max_staleness=st.integers(0, 3),
    max_extra_groups=st.integers(0, 3),
)
def test_a_resumed_run_draws_what_an_uninterrupted_one_would_have(
    cut: int, max_staleness: int, max_extra_groups: int
) -> None:
    config = configured(max_staleness, max_extra_groups=max_extra_groups)
    whole, first = (Practice(config, Progress()) for _ in range(2))
    before = first.play(cut)
    saved = first.progress.as_json()
    resumed = Practice(config, Progress.from_json(saved))
    assert before + resumed.play(NUM_STEPS) == whole.play(NUM_STEPS)
    assert resumed.progress == whole.progress
    assert whole.progress.drawn == ()


def test_a_stop_between_a_draw_and_its_step_changes_no_draw() -> None:
    """A checkpoint on a stop is of the last step that ended, while later ones are drawn already."""
    config = configured(1)
    whole, stopped = (Practice(config, Progress()) for _ in range(2))
    before = stopped.play(4)
    stopped.ahead.take(5)
    resumed = Practice(config, Progress.from_json(stopped.progress.as_json()))
    assert before + resumed.play(NUM_STEPS) == whole.play(NUM_STEPS)


@pytest.mark.parametrize("max_staleness", [0, 1, 3])
def test_a_draw_knows_every_step_that_was_trained_on_by_then(max_staleness: int) -> None:
    practice = Practice(configured(max_staleness), Progress())
    practice.play(NUM_STEPS)
    expected = {s: max(0, s - 1 - max_staleness) for s in range(1, NUM_STEPS + 1)}
    assert practice.known == expected


def test_what_was_drawn_is_kept_when_sampling_no_longer_runs_ahead() -> None:
    ahead = Practice(configured(2), Progress())
    ahead.play(3)
    kept = [list(tasks) for tasks in ahead.progress.drawn]
    in_turn = Practice(configured(0), ahead.progress)
    assert in_turn.play(5) == kept
    assert in_turn.progress.drawn == ()


def test_a_task_that_left_the_pool_is_left_out() -> None:
    stream = TaskStream(pool=POOL[1:], config=configured(1), history={})
    assert stream.named([task.task_id for task in POOL[:3]]) == POOL[1:3]
