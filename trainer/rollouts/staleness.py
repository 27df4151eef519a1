"""How far sampling runs ahead of training: the batches of the next steps are begun while an update runs, within a bound.

Staleness of a sampled token: policy version that its update starts from, minus policy version that sampled it. Why it never
exceeds `rollout.max_staleness` (K): the batch of step s is begun once the engine has the weights after step c >= s - 1 - K.
Later tokens of it are sampled by those weights or newer ones, the update of step s starts from the weights after step s - 1,
and a step raises the version by one at most. With K = 0 a batch is begun when its turn has come: nothing is sampled during an
update.

Batches are trained on in the order of their steps, not of completion: what ends first is short, and would be trained on
first (AReaL, arXiv 2505.24298, and PipelineRL, arXiv 2509.19128, take what is ready, and bound or filter its age).
A batch that was begun and not trained on is no part of a run's progress but for which tasks were drawn for it: a resumed run
begins it again with the same ones.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from sandbox.task import Task
from trainer.events import Metric
from trainer.grpo.rollout import ScoredGroup
from trainer.rollouts.collect import Collection
from trainer.rollouts.task_stream import TaskStream

Draws = tuple[tuple[str, ...], ...]
"""The task_ids of some next steps, step by step."""


class Begin(Protocol):
    def __call__(self, tasks: Sequence[Task], *, step: int) -> Collection:
        """Start the rollouts of a step's tasks."""
        ...


class Ahead:
    """Draws and begins batches as early as the bound allows, and gives them out in order."""

    def __init__(
        self,
        stream: TaskStream,
        begin: Begin,
        *,
        step: int,
        drawn: Draws,
        num_steps: int,
        max_staleness: int,
    ) -> None:
        """`step` is the last one trained on; `drawn` what a checkpoint kept of the draws for those after it."""
        self._stream, self._begin, self._begun = stream, begin, step
        self._num_steps, self._max_staleness = num_steps, max_staleness
        self._waiting = deque(tasks for ids in drawn if (tasks := stream.named(ids)))
        self._batches: deque[tuple[list[Task], Collection]] = deque()

    @property
    def drawn(self) -> Draws:
        """For the steps that were not given out."""
        tasks = [*(tasks for tasks, _ in self._batches), *self._waiting]
        return tuple(tuple(task.task_id for task in of_step) for of_step in tasks)

    def take(self, step: int) -> Collection:
        """The batch of `step`, whose turn it is: the engine has the weights after the step before it.

        Batches after it are begun too, as far as the bound goes; their rollouts start where this one's leave a slot.
        """
        last = min(step + self._max_staleness, self._num_steps)
        while self._begun < last:
            self._begin_next()
        return self._batches.popleft()[1]

    def _begin_next(self) -> None:
        if not self._waiting:
            self._waiting.append(self._stream.draw(self._stream.config.tasks.tasks_per_step))
        tasks = self._waiting.popleft()
        self._begun += 1
        self._batches.append((tasks, self._begin(tasks, step=self._begun)))


def staleness_metrics(groups: Sequence[ScoredGroup], policy_version: int) -> dict[str, Metric]:
    """How old the sampled tokens of a batch are for an update that starts from `policy_version`, in versions."""
    sampled = [r.sampled_versions for g in groups for r in g.rollouts if r.num_sampled_tokens]
    ages = [policy_version - version for versions in sampled for version in versions]
    return {
        "staleness/mean": (float(sum(ages)), float(len(ages))),
        "staleness/max": (float(max(ages, default=0)), 1.0),
        "staleness/mixed_rollouts": (
            float(sum(v[0] != v[-1] for v in sampled)),
            float(len(sampled)),
        ),
    }
