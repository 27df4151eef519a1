"""What each event of a shard means for the rows of its evaluation. `ingest` reads the file and holds the transaction.

Rollouts, turns and their ends are stored as a run's are. Of the rollouts at one place (task, index) the newest stands for
it, until one has a reward; the others are superseded.
"""

from functools import singledispatch
from typing import Any

from trainer.events import (
    Event,
    Finished,
    Regraded,
    Resumed,
    RolloutFinished,
    RolloutStarted,
    Started,
    TurnEnded,
)
from webapp.evaluations.models import Evaluation, Shard
from webapp.rollouts.models import Rollout
from webapp.runs.projection import CUT_OFF, add_turn, begin_rollout, end_rollout


@singledispatch
def project(event: Event, shard: Shard) -> None:
    """Change the rows of `shard` as `event` says. For some types nothing but the event's own row."""


@project.register
def _(event: Started, shard: Shard) -> None:
    Shard.objects.filter(id=shard.id).update(tasks=event.tasks)
    evaluations = Evaluation.objects.filter(id=shard.evaluation_id)
    # the configuration as it runs: a run's folder has become that of its newest checkpoint; the
    # taskset stays named as everywhere, its folder there is the machine's own
    source = shard.evaluation.config["tasks"]["taskset"]
    evaluations.update(config=with_taskset(event.config, source))
    evaluations.filter(started_at=None).update(started_at=event.time)


@project.register
def _(event: Resumed, shard: Shard) -> None:
    _cut_off(shard)


@project.register
def _(event: RolloutStarted, shard: Shard) -> None:
    earlier = Rollout.objects.filter(group=event.group, index=event.index, reward=None)
    earlier.update(superseded=True)
    begin_rollout(event, evaluation=shard.evaluation)


@project.register
def _(event: TurnEnded, shard: Shard) -> None:
    add_turn(event)


@project.register
def _(event: RolloutFinished, shard: Shard) -> None:
    end_rollout(event)


@project.register
def _(event: Regraded, shard: Shard) -> None:
    told = event.model_dump(exclude={"seq", "time", "type", "rollout", "files"})
    Rollout.objects.filter(id=event.rollout).update(**told)


@project.register
def _(event: Finished, shard: Shard) -> None:
    _cut_off(shard)


def with_taskset(config: dict[str, Any], taskset: str) -> dict[str, Any]:
    """The configuration of an evaluation, with its tasks from there."""
    return config | {"tasks": config["tasks"] | {"taskset": taskset}}


def _cut_off(shard: Shard) -> None:
    """What was in flight when the process ended."""
    tasks = Shard.objects.values_list("tasks", flat=True).get(id=shard.id)
    in_flight = Rollout.objects.filter(
        evaluation=shard.evaluation_id, task__in=tasks, finished_at=None
    )
    in_flight.update(superseded=True, reason=CUT_OFF)
