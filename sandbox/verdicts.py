"""What validation found out, kept on disk: `validation.jsonl`, one `Verdict` a line.

A verdict is about content: a task's fields, the runs, the backend and the limits. So a validation that was
interrupted goes on where it was, and one of a changed taskset judges the changed tasks alone. A grading
that broke is no knowledge: it is tried again. How tasks are judged is `sandbox.validate`.
"""

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sandbox.errors import Outcome
from sandbox.limits import Limits
from sandbox.task import Task

VALIDATION_FILE = "validation.jsonl"
PatchName = Literal["gold", "empty"]


class Attempt(BaseModel):
    """One grading of one patch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    patch: PatchName
    outcome: Outcome
    reward: float | None
    """None if and only if `outcome` is INFRA."""
    tests: dict[str, str]
    """Test -> status, as the run reported it."""
    reason: str
    seconds: float


class Verdict(BaseModel):
    """What validation found out about one task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task_id: str
    accepted: bool
    reason: str
    """Why the task is excluded, in one sentence; empty when it is accepted."""
    attempts: list[Attempt]
    digest: str = ""
    """What was judged, and how: see `digest`."""

    @property
    def seconds(self) -> float:
        return sum(attempt.seconds for attempt in self.attempts)

    @property
    def is_lasting(self) -> bool:
        """False when a grading broke, or none was made: that says nothing about the task."""
        graded = [attempt.outcome is not Outcome.INFRA for attempt in self.attempts]
        return bool(graded) and all(graded)


def digest(task: Task, *, runs: int, backend: str, limits: Limits) -> str:
    """Equal when the same content is judged in the same way."""
    how = [runs, backend, asdict(limits)]
    text = json.dumps([task.model_dump(mode="json"), *how], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class VerdictFile:
    """The file of one validation. Thread-safe; one process at a time may write it."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            with path.open("a") as lines:
                lines.write("\n")

    def read(self) -> dict[str, Verdict]:
        """Digest -> lasting verdict. A torn line, and one of another form, is as if it were not there."""
        if not self._path.exists():
            return {}
        verdicts = [_parsed(line) for line in self._path.read_text().splitlines()]
        return {v.digest: v for v in verdicts if v is not None and v.digest and v.is_lasting}

    def append(self, verdict: Verdict) -> None:
        with self._lock, self._path.open("a") as lines:
            lines.write(verdict.model_dump_json() + "\n")

    def rewrite(self, verdicts: Sequence[Verdict]) -> None:
        """These and no others."""
        draft = self._path.with_suffix(".draft")
        draft.write_text("".join(verdict.model_dump_json() + "\n" for verdict in verdicts))
        os.replace(draft, self._path)  # noqa: PTH105


def _parsed(line: str) -> Verdict | None:
    try:
        return Verdict.model_validate_json(line)
    except ValidationError:
        return None
