"""Which tasks are drawn: each once a pass, dull ones less often, and the same after a resumption as without one."""

from collections import Counter

import pytest

from sandbox.task import Task, load_taskset
from trainer.config import TasksConfig
from trainer.rollouts.curriculum import Visits, draw, remember, resting
from trainer.training.checkpoint import Progress

POOL = load_taskset("starter").select(split="train")[:10]
NAMES = [task.task_id for task in POOL]
RESTS = TasksConfig(rest_after_visits=2, rest_passes=3)
NEVER = TasksConfig()
DULL, HARD = NAMES[2], NAMES[5]


def solve_rate(task: Task) -> float:
    return {DULL: 1.0, HARD: 0.0}.get(task.task_id, 0.5)


def practise(
    steps: int, config: TasksConfig, *, count: int = 5, resume_at: int = 0, seed: int = 0
) -> list[list[str]]:
    """The tasks of each step; before step `resume_at` the progress goes through a checkpoint's JSON."""
    progress = Progress()
    drawn = []
    for step in range(1, steps + 1):
        if step == resume_at:
            progress = Progress.from_json(progress.as_json())
        tasks, cursor, history = draw(
            POOL, count, cursor=progress.cursor, history=progress.history, config=config, seed=seed
        )
        rates = {task.task_id: solve_rate(task) for task in tasks}
        history = remember(history, rates, config)
        progress = progress._replace(step=step, cursor=cursor, history=history)
        drawn.append([task.task_id for task in tasks])
    return drawn


def test_without_a_curriculum_every_pass_has_every_task_once() -> None:
    drawn = practise(8, NEVER)
    for first in range(0, 8, 2):
        assert sorted(drawn[first] + drawn[first + 1]) == sorted(NAMES)
    assert drawn[0] + drawn[1] != drawn[2] + drawn[3]


def test_order_follows_the_seed() -> None:
    assert practise(4, NEVER) == practise(4, NEVER)
    assert practise(4, NEVER) != practise(4, NEVER, seed=1)
    unshuffled = practise(2, TasksConfig(shuffle=False))
    assert unshuffled[0] + unshuffled[1] == NAMES


@pytest.mark.parametrize("task", [DULL, HARD])
def test_a_task_rests_for_the_told_passes_and_is_visited_once_more(task: str) -> None:
    """In passes 0 and 1, in 5 after three passes without it, and in 9."""
    config = TasksConfig(rest_after_visits=2, rest_passes=3, shuffle=False)
    order = [name for step in practise(90, config, count=1) for name in step]
    starts = [i for i, name in enumerate(order) if name == NAMES[0]]
    passes = [order[a:b] for a, b in zip(starts, starts[1:], strict=False)]
    assert [number for number, names in enumerate(passes) if task in names] == [0, 1, 5, 9]
    assert all(len(names) == len(set(names)) for names in passes)


def test_dull_tasks_are_drawn_less_and_never_given_up() -> None:
    count = Counter(name for step in practise(80, RESTS) for name in step)
    usual = count[NAMES[0]]
    assert 0.2 * usual < count[DULL] < 0.4 * usual
    assert 0.2 * usual < count[HARD] < 0.4 * usual


def test_a_task_that_changes_is_practised_again_at_once() -> None:
    history = {DULL: Visits(last_pass=4, rates=(0.0, 0.0))}
    assert resting(history, RESTS) == {DULL: 0.0}
    assert resting(remember(history, {DULL: 0.25}, RESTS), RESTS) == {}


@pytest.mark.parametrize(
    ("rates", "rests"),
    [((), False), ((1.0,), False), ((1.0, 1.0), True), ((0.0, 0.0), True), ((0.0, 1.0), False)],
)
def test_the_rule(rates: tuple[float, ...], rests: bool) -> None:
    history = {DULL: Visits(last_pass=0, rates=rates)}
    assert bool(resting(history, RESTS)) is rests
    assert resting(history, NEVER) == {}


@pytest.mark.parametrize("resume_at", range(1, 31))
def test_a_resumed_run_draws_what_an_uninterrupted_one_draws(resume_at: int) -> None:
    assert practise(30, RESTS, count=3, resume_at=resume_at) == practise(30, RESTS, count=3)


def test_progress_survives_its_json_and_a_checkpoint_that_has_no_history() -> None:
    history = {DULL: Visits(last_pass=3, rates=(0.0, 1.0))}
    progress = Progress(step=4, policy_version=3, cursor=32, compared=True, history=history)
    assert Progress.from_json(progress.as_json()) == progress
    old = '{"step": 4, "policy_version": 3, "cursor": 32, "compared": true}'
    # such a one was only saved once its evaluation was made
    assert Progress.from_json(old) == progress._replace(history={}, evaluated=4)


def test_no_task_comes_twice_in_a_step_while_there_are_others() -> None:
    for step in practise(40, RESTS, count=7):
        assert len(set(step)) == 7


def test_a_step_larger_than_the_pool_repeats_tasks() -> None:
    tasks = draw(POOL[:2], 5, cursor=0, history={}, config=NEVER, seed=0).tasks
    assert sorted(Counter(task.task_id for task in tasks).values()) == [2, 3]


def test_a_pool_that_rests_as_a_whole_is_visited_all_the_same() -> None:
    history = {name: Visits(last_pass=0, rates=(0.0, 0.0)) for name in NAMES}
    assert len(draw(POOL, 4, cursor=10, history=history, config=RESTS, seed=0).tasks) == 4


def test_besides_leaves_out_what_the_step_has() -> None:
    drawn = draw(POOL, 9, cursor=0, history={}, config=NEVER, seed=0, besides=NAMES[:7])
    assert sorted(task.task_id for task in drawn.tasks) == sorted(NAMES[7:])
