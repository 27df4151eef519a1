"""The bound on how old a token may be for the update that learns from it: over traces of the scheduler, and in whole runs."""

from collections.abc import Sequence
from itertools import count
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.task import Task, load_taskset
from tests.trainer.attempts import make_config, make_groups
from trainer.grpo.rollout import ScoredGroup
from trainer.rollouts.collect import Collection
from trainer.rollouts.staleness import Ahead, staleness_metrics
from trainer.rollouts.task_stream import TaskStream

POOL = load_taskset("starter").select(split="train")[:12]
CONFIG = make_config()


class Trace:
    """Plays a run's scheduling without models: which batch is in flight when, and by which weights its tokens are sampled."""

    def __init__(self, *, num_steps: int, max_staleness: int) -> None:
        self.engine_version = 0
        self.policy_version = 0
        self.in_flight: dict[int, list[int]] = {}
        self.begun: list[int] = []
        self.ages: list[int] = []
        self.most_ahead = 0
        self.ahead = Ahead(
            TaskStream(pool=POOL, config=CONFIG, history={}),
            self.begin,
            step=0,
            drawn=(),
            num_steps=num_steps,
            max_staleness=max_staleness,
        )

    def begin(self, tasks: Sequence[Task], *, step: int) -> Collection:
        assert len(tasks) == CONFIG.tasks.tasks_per_step
        self.begun.append(step)
        self.in_flight[step] = []
        return cast(Collection, step)

    def sample(self) -> None:
        """Every rollout in flight samples a token by the weights that answer now."""
        for versions in self.in_flight.values():
            versions.append(self.engine_version)

    def take_step(self, step: int, *, updated: bool) -> Collection:
        """A step of `trainer.train`, with sampling at every moment at which there may be some."""
        batch = self.ahead.take(step)
        self.sample()
        self.most_ahead = max(self.most_ahead, max(self.in_flight) - step)
        self.ages += [self.policy_version - version for version in self.in_flight.pop(step)]
        self.sample()
        self.policy_version += updated
        self.sample()
        if updated:
            self.engine_version = self.policy_version
        self.sample()
        return batch


@settings(deadline=None)
@given(updates=st.lists(st.booleans(), min_size=1, max_size=30), max_staleness=st.integers(0, 6))
def test_no_token_is_ever_older_than_the_bound(updates: list[bool], max_staleness: int) -> None:
    trace = Trace(num_steps=len(updates), max_staleness=max_staleness)
    for step, updated in enumerate(updates, 1):
        assert trace.take_step(step, updated=updated) == step
    assert max(trace.ages) <= max_staleness
    assert min(trace.ages) >= 0
    assert trace.begun == list(range(1, len(updates) + 1))
    assert trace.most_ahead == min(max_staleness, len(updates) - 1)


@pytest.mark.parametrize("max_staleness", [0, 1, 3])
def test_the_bound_is_used_up(max_staleness: int) -> None:
    trace = Trace(num_steps=8, max_staleness=max_staleness)
    for step in range(1, 9):
        trace.take_step(step, updated=True)
    assert max(trace.ages) == max_staleness


def _aged(versions: list[list[int]]) -> list[ScoredGroup]:
    """One group whose rollouts' sampled tokens are of these versions, with an observed token in between."""
    numbers = count()
    groups = make_groups(
        [[("A" * len(of), float(next(numbers) % 2), "finished") for of in versions]], make_config()
    )
    for rollout, of in zip(groups[0].rollouts, versions, strict=True):
        rollout.policy_versions = list(of)
        rollout.append_observed([0])
    return groups


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("staleness/mean", (2 + 1 + 0 + 0, 4)),
        ("staleness/max", (2, 1)),
        ("staleness/mixed_rollouts", (1, 2)),
    ],
)
def test_metric(name: str, pair: tuple[float, float]) -> None:
    metrics: dict[str, Any] = staleness_metrics(_aged([[5, 6, 7], [7]]), 7)
    assert metrics[name] == pair
