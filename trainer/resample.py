"""A step's groups: drawn, collected, and where some show no difference in reward, others drawn in their place.

DAPO's dynamic sampling (arXiv 2503.14476) with a bound: DAPO draws until the batch is full, here a step draws at most
`tasks.max_extra_groups` more, none of a task that it has already. A group that was replaced leaves the batch, so that the
loss is divided by as many rollouts as without; it stays in the metrics and in its task's history.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sandbox.task import Task
from trainer.config import TrainConfig
from trainer.curriculum import Visits, draw, remember, resting
from trainer.events import Metric
from trainer.rollout import ScoredGroup

Collect = Callable[[Sequence[Task]], list[ScoredGroup]]


class Batch(NamedTuple):
    drawn: list[ScoredGroup]
    """Every group of the step, in the order of drawing: what metrics are about."""
    trained_on: list[ScoredGroup]
    """Those that the update gets, `tasks.tasks_per_step` at most."""
    cursor: int
    history: dict[str, Visits]

    def metrics(self, config: TrainConfig) -> dict[str, Metric]:
        first = min(config.tasks.tasks_per_step, len(self.drawn))
        return {
            "groups/drawn": (float(len(self.drawn)), 1.0),
            "groups/extra": (float(len(self.drawn) - first), 1.0),
            "tasks/resting": (float(len(resting(self.history, config.tasks))), 1.0),
        }


def collect_batch(
    pool: Sequence[Task],
    cursor: int,
    history: Mapping[str, Visits],
    config: TrainConfig,
    collect: Collect,
) -> Batch:
    """Draw and collect one step's groups, and extra ones where the configuration asks for them."""
    first = draw(
        pool,
        config.tasks.tasks_per_step,
        cursor=cursor,
        history=history,
        config=config.tasks,
        seed=config.seed,
    )
    return top_up(collect(first.tasks), pool, first.cursor, first.history, config, collect)


def top_up(
    groups: Sequence[ScoredGroup],
    pool: Sequence[Task],
    cursor: int,
    history: Mapping[str, Visits],
    config: TrainConfig,
    collect: Collect,
) -> Batch:
    """The step's batch: its `groups`, and extra ones in the place of those without a difference, round by round."""
    drawn = list(groups)
    wanted = len(groups)
    most = wanted + config.tasks.max_extra_groups
    while missing := min(wanted - sum(g.trained for g in drawn), most - len(drawn)):
        extra = draw(
            pool,
            missing,
            cursor=cursor,
            history=history,
            config=config.tasks,
            seed=config.seed,
            besides={group.task_id for group in drawn},
        )
        if not extra.tasks:
            break
        cursor, history = extra.cursor, extra.history
        drawn += collect(extra.tasks)
    return Batch(
        drawn, _best(drawn, wanted), cursor, remember(history, _rates(drawn), config.tasks)
    )


def _best(drawn: Sequence[ScoredGroup], wanted: int) -> list[ScoredGroup]:
    """`wanted` groups in the order of drawing: those with a signal before those without."""
    ranked = sorted(range(len(drawn)), key=lambda i: (not drawn[i].trained, i))
    return [drawn[i] for i in sorted(ranked[:wanted])]


def _rates(drawn: Sequence[ScoredGroup]) -> dict[str, float]:
    """The solve rate of each task; one whose rollouts are all INFRA has none."""
    return {g.task_id: rate for g in drawn if (rate := g.solve_rate) is not None}
