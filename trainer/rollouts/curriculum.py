"""Which tasks a step practises on: pass by pass in an order made from the seed, with tasks that teach nothing resting.

The rule: a task that nobody solved, or everybody, in each of its last `tasks.rest_after_visits` visits rests: the next
`tasks.rest_passes` passes leave it out. Then it is visited once more, and rests again unless its rollouts differ. So it is
sampled less and never given up. The reason is that a group without a difference has no gradient, which is also DAPO's for
dynamic sampling (arXiv 2503.14476). When fewer tasks are awake than a step needs, passes go by more quickly.

Pure: the draw follows from seed, cursor and history alone, so a resumed run draws what an uninterrupted one would have.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from sandbox.task import Task
from trainer.config import TasksConfig
from trainer.events import Metric


class Visits(NamedTuple):
    """What is remembered of one task."""

    last_pass: int
    """The pass in which it was last drawn."""
    rates: tuple[float, ...] = ()
    """Solve rates of its last visits, the newest last; as many as the rule looks at."""


History = Mapping[str, Visits]
"""By task_id."""


class Draw(NamedTuple):
    tasks: list[Task]
    cursor: int
    """Positions of the endless row of passes that are used up; resting tasks' positions are passed over."""
    history: dict[str, Visits]


def draw(
    pool: Sequence[Task],
    count: int,
    *,
    cursor: int,
    history: History,
    config: TasksConfig,
    seed: int,
    besides: Collection[str] = (),
) -> Draw:
    """The next `count` tasks, none twice in a step while there are others; `besides` are task_ids that the step has already.

    Every pass has its own order, made from the seed alone. Fewer tasks come back only when `besides` holds the whole pool.
    """
    remembered = dict(history)
    drawn: list[Task] = []
    taken = set(besides)
    while len(drawn) < count:
        if len(taken) == len(pool):
            if besides:
                break
            taken = set()
        number, index = divmod(cursor, len(pool))
        task = pool[_order(len(pool), number, config.shuffle, seed)[index]]
        cursor += 1
        visits = remembered.get(task.task_id, Visits(last_pass=number))
        if task.task_id in taken or _rests(visits, number, config):
            continue
        remembered[task.task_id] = visits._replace(last_pass=number)
        taken.add(task.task_id)
        drawn.append(task)
    return Draw(drawn, cursor, remembered)


def remember(
    history: History, rates: Mapping[str, float], config: TasksConfig
) -> dict[str, Visits]:
    """The history after a step in which these drawn tasks had these solve rates."""
    kept = max(1, config.rest_after_visits)
    return dict(history) | {
        task: history[task]._replace(rates=(*history[task].rates, rate)[-kept:])
        for task, rate in rates.items()
    }


def resting(history: History, config: TasksConfig) -> dict[str, float]:
    """task_id -> its unchanging solve rate, 0 or 1, of every task that the next passes leave out."""
    return {
        task: visits.rates[-1] for task, visits in sorted(history.items()) if _dull(visits, config)
    }


def resting_metrics(history: History, config: TasksConfig) -> dict[str, Metric]:
    return {"tasks/resting": (float(len(resting(history, config))), 1.0)}


def _rests(visits: Visits, number: int, config: TasksConfig) -> bool:
    return _dull(visits, config) and 0 < number - visits.last_pass <= config.rest_passes


def _dull(visits: Visits, config: TasksConfig) -> bool:
    needed = config.rest_after_visits
    same = set(visits.rates[-needed:]) if needed and len(visits.rates) >= needed else set()
    return same in ({0.0}, {1.0})


@lru_cache(maxsize=4)
def _order(size: int, number: int, shuffle: bool, seed: int) -> list[int]:
    order = list(range(size))
    if shuffle:
        random.Random(f"{seed}/{number}").shuffle(order)
    return order
