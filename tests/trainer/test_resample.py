"""Dynamic sampling: extra groups for those without a difference, a bound on them, and metrics over all that was drawn."""

from collections.abc import Sequence

from sandbox.task import Task, load_taskset
from tests.trainer.attempts import Attempt, make_config, make_groups
from trainer.config import TrainConfig
from trainer.grpo.rollout import ScoredGroup
from trainer.metrics.steps import rollout_metrics
from trainer.rollouts.resample import Batch, top_up
from trainer.rollouts.task_stream import TaskStream

POOL = load_taskset("starter").select(split="train")[:12]
SOLVED: Attempt = ("AA", 1.0, "finished")
FAILED: Attempt = ("AAA", 0.0, "finished")
LOST: Attempt = ("A", None, "infra")
MIXED, NOBODY, EVERYBODY = [SOLVED, FAILED], [FAILED, FAILED], [SOLVED, SOLVED]


class Scripted:
    """Gives the groups of a script in the order in which tasks are drawn; nobody solves what comes after it."""

    def __init__(self, config: TrainConfig, script: Sequence[list[Attempt]]) -> None:
        self.config, self.script = config, list(script)
        self.calls: list[int] = []
        self.tasks: list[str] = []

    def __call__(self, tasks: Sequence[Task]) -> list[ScoredGroup]:
        self.calls.append(len(tasks))
        groups = []
        for task in tasks:
            attempts = self.script.pop(0) if self.script else NOBODY
            (group,) = make_groups([attempts], self.config)
            for rollout in group.rollouts:
                rollout.task_id = task.task_id
            groups.append(group)
            self.tasks.append(task.task_id)
        return groups


def play(script: Sequence[list[Attempt]], **tasks: int) -> tuple[Batch, Scripted, TaskStream]:
    """A step of four groups and of the extra ones."""
    config = make_config(tasks={"tasks_per_step": 4} | tasks)
    collect, stream = Scripted(config, script), TaskStream(pool=POOL, config=config, history={})
    return top_up(collect(stream.draw(4)), stream, config.tasks, collect), collect, stream


def test_without_the_option_every_group_is_trained_on_as_it_came() -> None:
    batch, collect, stream = play([MIXED, NOBODY, EVERYBODY, MIXED])
    assert collect.calls == [4]
    assert batch.trained_on == batch.drawn
    assert batch.metrics()["groups/extra"] == (0, 1)
    assert stream.cursor == 4


def test_extra_groups_replace_those_without_a_difference() -> None:
    batch, collect, stream = play(
        [MIXED, NOBODY, EVERYBODY, MIXED, MIXED, NOBODY, MIXED], max_extra_groups=8
    )
    assert collect.calls == [4, 2, 1]
    assert [g.trained for g in batch.trained_on] == [True] * 4
    assert len(batch.drawn) == 7
    assert batch.metrics()["groups/drawn"] == (7, 1)
    assert batch.metrics()["groups/extra"] == (3, 1)
    assert stream.cursor == 7
    assert len(set(collect.tasks)) == 7


def test_the_bound_holds_and_the_batch_keeps_its_size() -> None:
    batch, collect, _ = play([MIXED], max_extra_groups=2)
    assert collect.calls == [4, 2]
    assert len(batch.drawn) == 6
    assert [g.trained for g in batch.trained_on] == [True, False, False, False]


def test_the_pool_is_not_drawn_from_twice_in_a_step() -> None:
    batch, collect, _ = play([], max_extra_groups=100)
    assert sorted(collect.tasks) == sorted(task.task_id for task in POOL)
    assert len(batch.drawn) == 12


def test_metrics_are_over_all_groups_drawn() -> None:
    batch, _, _ = play([MIXED, NOBODY, NOBODY, MIXED, MIXED, MIXED], max_extra_groups=2)
    metrics = rollout_metrics(batch.drawn, 1.0)
    assert metrics["reward/mean"] == (4, 12)
    assert metrics["solved/none"] == (2, 6)
    assert metrics["groups/trained"] == (4, 6)
    assert rollout_metrics(batch.trained_on, 1.0)["reward/mean"] == (4, 8)


def test_replaced_groups_stay_in_their_tasks_history() -> None:
    batch, collect, stream = play([NOBODY, MIXED, MIXED, MIXED, MIXED], max_extra_groups=1)
    assert stream.history[collect.tasks[0]].rates == (0.0,)
    assert stream.history[collect.tasks[4]].rates == (0.5,)


def test_a_group_that_is_all_infra_is_replaced_and_leaves_no_solve_rate() -> None:
    batch, collect, stream = play([[LOST, LOST], MIXED, MIXED, MIXED, MIXED], max_extra_groups=1)
    assert all(g.trained for g in batch.trained_on)
    assert stream.history[collect.tasks[0]].rates == ()
