"""How far sampling runs ahead of training: the batches of the next steps are begun while an update runs, within a bound.

Staleness of a sampled token: policy version that its update starts from, minus policy version that sampled it. Why it never
exceeds `rollout.max_staleness` (K): the batch of step s is begun once the engine has the weights after step c >= s - 1 - K.
Later tokens of it are sampled by those weights or newer ones, the update of step s starts from the weights after step s - 1,
and a step raises the version by one at most. With K = 0 a batch is begun when its turn has come: nothing is sampled during an
update.

Batches are trained on in the order of their steps, not of completion: what ends first is short, and would be trained on
first (AReaL, arXiv 2505.24298, and PipelineRL, arXiv 2509.19128, take what is ready, and bound or filter its age).
A batch that was begun and not trained on is no part of a run's progress: a resumed run begins it again.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from trainer.collect import Collection
from trainer.events import Metric
from trainer.rollout import ScoredGroup


class Batch(NamedTuple):
    """The rollouts of one step, in flight or ended."""

    collection: Collection
    cursor: int
    """Training tasks drawn after this batch."""


class Ahead:
    """Begins batches as early as the bound allows, and gives them out in order."""

    def __init__(
        self,
        begin: Callable[[int, int], Batch],
        *,
        step: int,
        cursor: int,
        num_steps: int,
        max_staleness: int,
    ) -> None:
        """`begin` starts the batch of a step from a task cursor; `step` is the last one trained on."""
        self._begin, self._cursor = begin, cursor
        self._num_steps, self._max_staleness = num_steps, max_staleness
        self._begun = step
        self._batches: deque[Batch] = deque()

    def take(self, step: int) -> Batch:
        """The batch of `step`, whose turn it is: the engine has the weights after the step before it.

        Batches after it are begun too, as far as the bound goes; their rollouts start where this one's leave a slot.
        """
        last = min(step + self._max_staleness, self._num_steps)
        for begun in range(self._begun + 1, last + 1):
            batch = self._begin(begun, self._cursor)
            self._begun, self._cursor = begun, batch.cursor
            self._batches.append(batch)
        return self._batches.popleft()


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
