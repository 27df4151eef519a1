"""Is a taskset fit to train on? `python -m sandbox.validate TASKSET` grades gold and empty patches.

A task is accepted when its gold patch passes, its empty patch fails, and every run gave the same
status to every test; otherwise it is excluded, with the reason kept. This module judges tasks, it
does not repair them, and how a patch is graded is the business of `sandbox.environment`.

Writes `validation.jsonl` to the output folder, one `Verdict` a line in the taskset's order. Exit
code 0 when all tasks were accepted, 1 when any was excluded, 2 when nothing could be validated.
"""

import argparse
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict

from sandbox.base import BACKENDS, SandboxLabels, load_backend
from sandbox.environment import Grade, Limits, grade
from sandbox.errors import Outcome, SandboxUnavailable, TasksetError
from sandbox.task import Task, load_taskset

VALIDATION_FILE = "validation.jsonl"
SANDBOX_LIFE_S = 3600.0
"""After this many seconds anybody may remove a sandbox of ours; one grading takes far less."""

PatchName = Literal["gold", "empty"]
GradePatch = Callable[[Task, bytes], Grade]


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

    @property
    def seconds(self) -> float:
        return sum(attempt.seconds for attempt in self.attempts)


def exclusion(attempts: Sequence[Attempt]) -> str:
    """Why a task with these gradings cannot be trained on; empty when it can."""
    for attempt in attempts:
        if attempt.outcome is not Outcome.TASK:
            return f"{attempt.patch} patch could not be graded: {attempt.reason}"
    for name in ("gold", "empty"):
        runs = [attempt.tests for attempt in attempts if attempt.patch == name]
        if any(tests != runs[0] for tests in runs):
            return f"{name} patch: {len(runs)} runs disagree about {', '.join(_unsteady(runs))}"
    for attempt in attempts:
        if attempt.patch == "gold" and attempt.reward != 1:
            return f"gold patch does not pass: {attempt.reason}"
        if attempt.patch == "empty" and attempt.reward != 0:
            return "empty patch passes: no expected test shows the bug"
    return ""


def _unsteady(runs: Sequence[dict[str, str]]) -> list[str]:
    names = sorted(set().union(*runs))
    return [name for name in names if len({tests.get(name) for tests in runs}) > 1]


def validate_task(task: Task, grade_patch: GradePatch, *, runs: int) -> Verdict:
    """Grade the gold and the empty patch of one task, `runs` times each."""
    attempts: list[Attempt] = []
    try:
        for name, patch in _patches(task).items():
            attempts += [_attempt(name, grade_patch(task, patch)) for _ in range(runs)]
        reason = exclusion(attempts)
    except TasksetError as error:
        reason = str(error)
    return Verdict(task_id=task.task_id, accepted=not reason, reason=reason, attempts=attempts)


def _patches(task: Task) -> dict[PatchName, bytes]:
    if not task.gold_patch:
        raise TasksetError(f"{task.task_id}: no gold patch: add gold.patch to its folder")
    return {"gold": task.gold_patch.encode(), "empty": b""}


def _attempt(name: PatchName, graded: Grade) -> Attempt:
    return Attempt(
        patch=name,
        outcome=graded.outcome,
        reward=graded.reward,
        tests=graded.tests,
        reason=graded.reason,
        seconds=graded.seconds,
    )


def validate(
    tasks: Iterable[Task], grade_patch: GradePatch, *, runs: int, jobs: int
) -> Iterator[Verdict]:
    """Verdicts in the order of `tasks`, `jobs` tasks at a time."""
    with ThreadPoolExecutor(jobs, thread_name_prefix="validate") as pool:
        yield from pool.map(lambda task: validate_task(task, grade_patch, runs=runs), tasks)


def grader(backend_name: str) -> GradePatch:
    """Grades patches in fresh sandboxes of one backend, labelled as this process's own."""
    backend = load_backend(backend_name)
    run, limits = f"validate-{uuid4()}", Limits()

    def grade_patch(task: Task, patch: bytes) -> Grade:
        labels = SandboxLabels(
            run=run,
            rollout=str(uuid4()),
            owner=f"{socket.gethostname()}:{os.getpid()}",
            expires=time.time() + SANDBOX_LIFE_S,
        )
        return grade(task, patch, backend, labels=labels, limits=limits)

    return grade_patch


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for its exit codes."""
    options = _options(argv)
    try:
        taskset = load_taskset(options.taskset)
        verdicts = validate(
            taskset.tasks, grader(options.backend), runs=options.runs, jobs=options.jobs
        )
        out = options.out or Path("var/validation") / taskset.name
        excluded = _report(verdicts, len(taskset), out / VALIDATION_FILE)
    except (TasksetError, SandboxUnavailable) as error:
        print(error, file=sys.stderr)
        return 2
    print(_summary(excluded, len(taskset)))
    return 1 if excluded else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.validate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("taskset", help="a bundled taskset's name, or a taskset folder")
    parser.add_argument(
        "--runs", type=_positive, default=3, help="gradings of each patch; default: 3"
    )
    parser.add_argument(
        "--backend", choices=tuple(BACKENDS), default="bubblewrap", help="default: bubblewrap"
    )
    parser.add_argument("--out", type=Path, help="default: var/validation/NAME")
    parser.add_argument(
        "--jobs",
        type=_positive,
        default=os.cpu_count() or 1,
        help="tasks at a time; default: cores",
    )
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: needs a whole number of at least 1")
    return int(text)


def _report(verdicts: Iterable[Verdict], total: int, path: Path) -> list[Verdict]:
    """Write and show each verdict as it comes; returns those that exclude their task."""
    path.parent.mkdir(parents=True, exist_ok=True)
    excluded = []
    with path.open("w") as lines:
        for number, verdict in enumerate(verdicts, start=1):
            lines.write(verdict.model_dump_json() + "\n")
            lines.flush()
            word = "ok" if verdict.accepted else "EXCLUDED"
            progress = f"[{number}/{total}] {word:8} {verdict.task_id} {verdict.seconds:.1f} s"
            print(progress, flush=True)
            if not verdict.accepted:
                excluded.append(verdict)
    return excluded


def _summary(excluded: Sequence[Verdict], total: int) -> str:
    if not excluded:
        return f"all {total} tasks accepted"
    width = max(len(verdict.task_id) for verdict in excluded)
    rows = [f"  {verdict.task_id:{width}}  {verdict.reason}" for verdict in excluded]
    return "\n".join([f"{len(excluded)} of {total} tasks excluded:", *rows])


if __name__ == "__main__":
    sys.exit(main())
