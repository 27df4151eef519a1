"""The events of a run: the only definition of what `events.jsonl` holds. Light: standard library and pydantic only.

A run's process appends one JSON line an event to `RUN_DIR/events.jsonl`, each with a gapless `seq` from 1; large things
(token arrays, test logs, weights) are files beside it, named in the event. The file is the truth: databases and pages
are rebuilt from it. How it is written and read is `sandbox.event_log`'s.

This module neither decides what happens in a run (`trainer.train`) nor stores rows (`webapp.runs.ingest`).
"""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from sandbox.event_log import EVENTS_FILE as EVENTS_FILE
from sandbox.event_log import Event as Event
from sandbox.event_log import EventWriter as EventWriter
from sandbox.event_log import read_lines
from sandbox.trajectory import Turn

Metric = tuple[float, float]
"""(numerator, denominator): rates reduce as sum / sum, so a mean over steps or ranks is exact."""

Phase = Literal["rollout", "score", "update", "sync", "evaluate", "checkpoint"]
Purpose = Literal["train", "evaluation"]
TerminationReason = Literal[
    "finished", "max_turns", "max_context", "timeout", "agent_fault", "infra"
]
Outcome = Literal["task", "agent_fault", "infra"]


class Started(Event):
    type: Literal["started"] = "started"
    run: UUID
    config: dict[str, Any]
    """The whole TrainConfig; of an evaluation its EvalConfig."""
    versions: dict[str, str]
    host: dict[str, Any]
    """name, cores, memory_mib, gpus."""
    tasks: list[str]
    """task_id of every task in this run's training pool, in cursor order; of those that this shard evaluates."""


class Resumed(Event):
    type: Literal["resumed"] = "resumed"
    run: UUID
    attempt: int
    """2 for the first resumption."""
    from_step: int
    """The step of the checkpoint: rows of later steps from earlier attempts are superseded."""


class PhaseEnded(Event):
    type: Literal["phase"] = "phase"
    step: int
    phase: Phase
    seconds: float


class RolloutStarted(Event):
    type: Literal["rollout_started"] = "rollout_started"
    rollout: UUID
    group: UUID
    index: int
    """Position within the group, from 0."""
    task: str
    step: int
    purpose: Purpose
    policy_version: int
    prompt: str
    """The rendered prompt that the group shares; empty for all but the group's index 0."""


class TurnEnded(Event):
    type: Literal["turn"] = "turn"
    rollout: UUID
    policy_version: int | None = None
    """Of the weights that answered when the turn began (`trainer.engines.generate.Completion`); None where it is not known."""
    turn: Turn


class RolloutFinished(Event):
    type: Literal["rollout_finished"] = "rollout_finished"
    rollout: UUID
    group: UUID
    task: str
    step: int
    purpose: Purpose
    outcome: Outcome
    termination_reason: TerminationReason
    flags: list[str]
    reward: float | None
    """0 or 1; None if and only if outcome is infra."""
    num_turns: int
    num_prompt_tokens: int
    num_sampled_tokens: int
    num_response_tokens: int
    """Sampled and observation tokens after the prompt."""
    tests: dict[str, str]
    """Test name -> PASSED | FAILED | ERROR | MISSING."""
    patch: str
    """A git patch; empty when nothing changed. Bytes that are not UTF-8 are escaped."""
    files: dict[str, str]
    """Kind (tokens, test_log, patch) -> path relative to RUN_DIR."""
    seconds: float
    grade_s: float
    reason: str
    """One sentence: why this outcome and reward."""


class Regraded(Event):
    """A finished rollout's patch, graded again: these replace what `rollout_finished` said."""

    type: Literal["regraded"] = "regraded"
    rollout: UUID
    outcome: Outcome
    reward: float | None
    flags: list[str]
    """Of the agent and of the new grading."""
    tests: dict[str, str]
    files: dict[str, str]
    """Kind (test_log) -> path relative to the folder; those of other kinds stay."""
    grade_s: float
    reason: str


class GroupScored(Event):
    """A group's advantages, known once all its rollouts are graded."""

    type: Literal["group_scored"] = "group_scored"
    group: UUID
    task: str
    step: int
    rollouts: list[UUID]
    advantages: list[float]
    filtered: list[bool]
    """True where compact filtering takes the rollout out of the loss."""
    trained: bool
    """False when no advantage is non-zero: the group costs no forward pass."""


class StepEnded(Event):
    type: Literal["step"] = "step"
    step: int
    """Steps count from 1."""
    policy_version: int
    updated: bool
    """False when there was nothing to learn, or the step was skipped as non-finite."""
    seconds: float
    metrics: dict[str, Metric]


class Evaluated(Event):
    type: Literal["evaluation"] = "evaluation"
    step: int
    """0 for the untrained policy."""
    policy_version: int
    num_tasks: int
    group_size: int
    mean_reward: float
    scores: dict[str, list[float]]
    """task -> the reward of each of its rollouts that is not INFRA."""
    seconds: float


class CheckpointSaved(Event):
    type: Literal["checkpoint"] = "checkpoint"
    step: int
    path: str
    """Relative to RUN_DIR."""
    size_mib: float


class Alarm(Event):
    """Written once when it is raised and once when it is cleared; between the two it stands."""

    type: Literal["alarm"] = "alarm"
    step: int
    rule: str
    """Name in `trainer.metrics.alarms`."""
    sentence: str
    remedy: str
    """Empty when it is cleared."""
    cleared: bool = False


class TasksResting(Event):
    """The tasks that the curriculum leaves out for a while, whenever they are others than before."""

    type: Literal["resting"] = "resting"
    step: int
    tasks: dict[str, float]
    """task -> the solve rate, 0 or 1, that its last visits all had."""


class LogLine(Event):
    type: Literal["log"] = "log"
    level: Literal["debug", "info", "warning", "error"]
    text: str


class Finished(Event):
    type: Literal["finished"] = "finished"
    status: Literal["finished", "stopped", "failed"]
    reason: str
    step: int


AnyEvent = Annotated[
    Started
    | Resumed
    | PhaseEnded
    | RolloutStarted
    | TurnEnded
    | RolloutFinished
    | Regraded
    | GroupScored
    | StepEnded
    | Evaluated
    | CheckpointSaved
    | Alarm
    | TasksResting
    | LogLine
    | Finished,
    Field(discriminator="type"),
]
EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
_TYPE = re.compile(rb'"type":"(\w+)"')
"""In a line of ours the first match is the event's own: seq and time come before it."""


def parse_event(line: bytes | str) -> AnyEvent:
    """One line of an events file. Raises pydantic.ValidationError."""
    return EVENT.validate_json(line)


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[int, AnyEvent]]:
    """Events from byte `offset` on, each with the offset after it. Raises pydantic.ValidationError."""
    for after, line in read_lines(path, offset):
        yield after, parse_event(line)


def read_events_of(path: Path, types: Collection[str]) -> Iterator[AnyEvent]:
    """Events of these types, without the cost of parsing all others. Raises pydantic.ValidationError."""
    for _, line in read_lines(path):
        if (found := _TYPE.search(line)) and found[1].decode() in types:
            yield parse_event(line)


def counted_steps(events: Iterable[AnyEvent]) -> list[StepEnded]:
    """The steps that no later attempt did over."""
    steps: list[StepEnded] = []
    for event in events:
        if isinstance(event, Resumed):
            steps = [step for step in steps if step.step <= event.from_step]
        elif isinstance(event, StepEnded):
            steps.append(event)
    return steps
