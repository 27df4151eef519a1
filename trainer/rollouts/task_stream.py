"""Where a run stands in the endless row of passes over its tasks: what `trainer.rollouts.curriculum` draws from and is told.

A draw knows what is known when it is made: every draw before it, and the solve rates of every step that was trained on by then.
With sampling `rollout.max_staleness` (K) steps ahead, the draw of step s therefore knows the rates of steps 1 to s - 1 - K, and
with K = 0 all before it. Draws are made in one order whatever the timing, so they follow from seed and rewards alone.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sandbox.task import Task
from trainer.config import TrainConfig
from trainer.grpo.rollout import ScoredGroup
from trainer.rollouts.curriculum import History, draw, remember


@dataclass(kw_only=True)
class TaskStream:
    """One thread draws and remembers; `cursor` and `history` are what a checkpoint keeps of it."""

    pool: Sequence[Task]
    config: TrainConfig
    cursor: int = 0
    history: History

    def draw(self, count: int, besides: Collection[str] = ()) -> list[Task]:
        """The next `count` tasks, fewer when the pool has no more than the task_ids of `besides`."""
        tasks, self.cursor, self.history = draw(
            self.pool,
            count,
            cursor=self.cursor,
            history=self.history,
            config=self.config.tasks,
            seed=self.config.seed,
            besides=besides,
        )
        return tasks

    def remember(self, groups: Sequence[ScoredGroup]) -> None:
        """A step's solve rates; a group whose rollouts are all INFRA has none."""
        rates = {g.task_id: rate for g in groups if (rate := g.solve_rate) is not None}
        self.history = remember(self.history, rates, self.config.tasks)

    def named(self, task_ids: Sequence[str]) -> list[Task]:
        """Those of them that are in the pool."""
        by_id = {task.task_id: task for task in self.pool}
        return [by_id[task_id] for task_id in task_ids if task_id in by_id]
