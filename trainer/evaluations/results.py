"""What an evaluation's folder holds: each rollout of each task once, whatever attempts, shards and regradings lie behind it.

Read from the events alone. A rollout that ended as INFRA has no reward and gives way to a later attempt at the same place;
one that has a reward is never given up for another. What the numbers mean is `trainer.evaluations.estimates`'.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from uuid import UUID

from trainer.evaluations.shards import shard_folders
from trainer.evaluations.summary import RolloutRow
from trainer.events import (
    EVENTS_FILE,
    AnyEvent,
    Regraded,
    RolloutFinished,
    RolloutStarted,
    Started,
    TurnEnded,
    read_events_of,
)

RESULT_EVENTS = ("rollout_started", "rollout_finished", "regraded")
Place = tuple[str, int]
"""(task_id, index of the rollout, from 0): what is done once."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The rollout that counts at a place."""

    index: int
    folder: Path
    """Of its shard; the rollout's files are named relative to it."""
    started_at: datetime
    finished: RolloutFinished
    """As the last grading left it."""

    @property
    def task(self) -> str:
        return self.finished.task

    @property
    def place(self) -> Place:
        return self.finished.task, self.index

    @property
    def rollout(self) -> UUID:
        return self.finished.rollout

    @property
    def reward(self) -> float | None:
        return self.finished.reward

    @property
    def patch(self) -> bytes:
        """The whole patch."""
        if "patch" in self.finished.files:
            return (self.folder / self.finished.files["patch"]).read_bytes()
        return self.finished.patch.encode()

    @property
    def row(self) -> RolloutRow:
        """What a summary needs of it."""
        told, patch = self.finished, self.patch
        return RolloutRow(
            task=told.task,
            rollout=told.rollout,
            termination_reason=told.termination_reason,
            reward=told.reward,
            flags=told.flags,
            patch_digest=hashlib.sha256(patch).hexdigest(),
            patch_size=len(patch),
            num_turns=told.num_turns,
            num_sampled_tokens=told.num_sampled_tokens,
            num_response_tokens=told.num_response_tokens,
            seconds=told.seconds,
            grade_s=told.grade_s,
        )


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the evaluation says of itself."""

    started: Started
    tasks: tuple[str, ...]
    """Of all shards that have begun."""


def read_header(evaluation: Path) -> Header:
    """Raises FileNotFoundError when it has not begun."""
    started: list[Started] = []
    for folder in shard_folders(evaluation):
        first = next(iter(read_events_of(folder / EVENTS_FILE, ["started"])), None)
        if isinstance(first, Started):
            started.append(first)
    if not started:
        raise FileNotFoundError(
            f"{evaluation}: no {EVENTS_FILE}; run python -m trainer.evaluate {evaluation}"
        )
    return Header(started=started[0], tasks=tuple(task for s in started for task in s.tasks))


def read_results(evaluation: Path) -> list[Result]:
    """Of every shard, in the order of tasks and places. A place with none finished is not there."""
    found: dict[Place, Result] = {}
    for folder in shard_folders(evaluation):
        for result in results_of(read_events_of(folder / EVENTS_FILE, RESULT_EVENTS), folder):
            known = found.get(result.place)
            if known is None or known.reward is None:
                found[result.place] = result
    return [found[place] for place in sorted(found)]


def results_of(events: Iterable[AnyEvent], folder: Path) -> list[Result]:
    """One for each place that these events finish."""
    started: dict[UUID, RolloutStarted] = {}
    found: dict[Place, Result] = {}
    place_of: dict[UUID, Place] = {}
    for event in events:
        match event:
            case RolloutStarted():
                started[event.rollout] = event
            case RolloutFinished():
                begun = started.pop(event.rollout)
                place_of[event.rollout] = place = (event.task, begun.index)
                if place not in found or found[place].reward is None:
                    found[place] = Result(
                        index=begun.index, folder=folder, started_at=begun.time, finished=event
                    )
            case Regraded():
                place = place_of[event.rollout]
                if found[place].rollout == event.rollout:
                    found[place] = _regraded(found[place], event)
            case _:
                continue
    return list(found.values())


def _regraded(result: Result, event: Regraded) -> Result:
    told = event.model_dump(exclude={"seq", "time", "type", "rollout", "files"})
    told["files"] = result.finished.files | event.files
    return replace(result, finished=result.finished.model_copy(update=told))


def turns_of(results: Sequence[Result]) -> Iterator[tuple[Result, list[TurnEnded]]]:
    """Each result with its turns, shard by shard; only one shard's are in memory."""
    for folder in dict.fromkeys(result.folder for result in results):
        here = [result for result in results if result.folder == folder]
        turns: dict[UUID, list[TurnEnded]] = {result.rollout: [] for result in here}
        for event in read_events_of(folder / EVENTS_FILE, ["turn"]):
            if isinstance(event, TurnEnded) and event.rollout in turns:
                turns[event.rollout].append(event)
        for result in here:
            yield result, turns.pop(result.rollout)


def rewards_by_task(results: Iterable[Result]) -> dict[str, list[float]]:
    """task -> rewards in the order of places, INFRA left out; a task of nothing but INFRA has an empty list."""
    rewards: dict[str, list[float]] = {}
    for result in results:
        values = rewards.setdefault(result.task, [])
        if result.reward is not None:
            values.append(result.reward)
    return rewards
