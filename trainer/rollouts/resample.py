"""Where some of a step's groups show no difference in reward, others are drawn in their place.

DAPO's dynamic sampling (arXiv 2503.14476) with a bound: DAPO draws until the batch is full, here a step draws at most
`tasks.max_extra_groups` more, none of a task that it has already. A group that was replaced leaves the batch, so that the
loss is divided by as many rollouts as without; it stays in the metrics and in its task's history. Extra groups are begun when
the step's turn has come, with the newest weights, also where its first ones were sampled ahead.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sandbox.task import Task
from trainer.config import TasksConfig
from trainer.events import Metric
from trainer.grpo.rollout import ScoredGroup
from trainer.rollouts.task_stream import TaskStream

Collect = Callable[[Sequence[Task]], list[ScoredGroup]]


class Batch(NamedTuple):
    drawn: list[ScoredGroup]
    """Every group of the step, in the order of drawing: what metrics are about."""
    trained_on: list[ScoredGroup]
    """Those that the update gets: as many as the step began with."""

    def metrics(self) -> dict[str, Metric]:
        extra = len(self.drawn) - len(self.trained_on)
        return {
            "groups/drawn": (float(len(self.drawn)), 1.0),
            "groups/extra": (float(extra), 1.0),
        }


def top_up(
    groups: Sequence[ScoredGroup], stream: TaskStream, config: TasksConfig, collect: Collect
) -> Batch:
    """The step's batch: its `groups`, and extra ones in the place of those without a difference, round by round.

    `stream` remembers what all of them showed.
    """
    drawn = list(groups)
    wanted = len(groups)
    most = wanted + config.max_extra_groups
    while missing := min(wanted - sum(g.trained for g in drawn), most - len(drawn)):
        extra = stream.draw(missing, besides={group.task_id for group in drawn})
        if not extra:
            break
        drawn += collect(extra)
    stream.remember(drawn)
    return Batch(drawn, _best(drawn, wanted))


def _best(drawn: Sequence[ScoredGroup], wanted: int) -> list[ScoredGroup]:
    """`wanted` groups in the order of drawing: those with a signal before those without."""
    ranked = sorted(range(len(drawn)), key=lambda i: (not drawn[i].trained, i))
    return [drawn[i] for i in sorted(ranked[:wanted])]
