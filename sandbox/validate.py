"""Is a taskset fit to train on? `python -m sandbox.validate TASKSET` grades gold and empty patches.

A task is accepted when its gold patch passes, its empty patch fails, and every run gave the same
status to every test; otherwise it is excluded, with the reason kept. This module judges tasks, it
does not repair them, and how a patch is graded is the business of `sandbox.environment`.

Writes to the output folder `validation.jsonl`, one `Verdict` a line, and `events.jsonl`
(`sandbox.events`). Started again it takes over what an earlier validation found out about the same
content (`sandbox.verdicts`); `--fresh` judges all anew. SIGTERM ends it after the gradings under way.
Exit code 0 when all tasks were accepted, 1 when any was excluded, 2 when nothing could be validated,
3 when it was stopped.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from sandbox.base import BACKENDS, SandboxLabels
from sandbox.deployment import configured_backend
from sandbox.environment import Grade, grade
from sandbox.errors import Outcome, SandboxUnavailable, TasksetError
from sandbox.events import EventWriter, Finished, Started, TaskJudged
from sandbox.limits import OF_IMAGES, Limits, usual_limits
from sandbox.task import Task, load_taskset
from sandbox.verdicts import VALIDATION_FILE, Attempt, PatchName, Verdict, VerdictFile, digest

LIMITS = {
    "memory_mib": "memory of one sandbox, MiB",
    "pids": "processes in one sandbox",
    "disk_mib": "writable space of one sandbox, MiB",
    "grading_timeout_s": "seconds for the tests of one grading",
}
"""What of a sandbox may be said otherwise, as the fields of a configuration have it."""
SANDBOX_LIFE_S = 3600.0
"""After this many seconds anybody may remove a sandbox of ours; one grading takes far less."""

GradePatch = Callable[[Task, bytes], Grade]
LimitsOf = Callable[[Task], Limits]


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


def validate_task(task: Task, grade_patch: GradePatch, *, runs: int, key: str = "") -> Verdict:
    """Grade the gold and the empty patch of one task, `runs` times each; `key` says what was judged."""
    attempts: list[Attempt] = []
    try:
        for name, patch in _patches(task).items():
            attempts += [_attempt(name, grade_patch(task, patch)) for _ in range(runs)]
        reason = exclusion(attempts)
    except TasksetError as error:
        reason = str(error)
    return Verdict(
        task_id=task.task_id,
        accepted=not reason,
        reason=reason,
        attempts=attempts,
        digest=key,
    )


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


class _Stopped(Exception):
    """A task is given up between two gradings."""


class Validation:
    """One validation of a taskset into a folder: what is known stays, the rest is judged, each verdict is told as it
    comes.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        folder: Path,
        *,
        runs: int,
        backend: str,
        events: EventWriter,
        limits_of: LimitsOf = usual_limits,
        fresh: bool = False,
    ) -> None:
        self.tasks, self.runs, self.backend, self.events = tasks, runs, backend, events
        self.limits_of = limits_of
        self.stop = threading.Event()
        """Set it to end after the gradings under way."""
        self.file = VerdictFile(folder / VALIDATION_FILE)
        self._known = {} if fresh else self.file.read()
        self._done = 0

    def run(self, grade_patch: GradePatch, *, jobs: int) -> list[Verdict]:
        """The verdicts there are at the end, in the taskset's order; those missing were not judged before the stop."""
        verdicts: dict[str, Verdict] = {}
        with ThreadPoolExecutor(jobs, thread_name_prefix="validate") as pool:
            judged = pool.map(lambda task: self._judge(task, grade_patch), self.tasks)
            for task, (verdict, known) in zip(self.tasks, judged, strict=True):
                if verdict is not None:
                    verdicts[task.task_id] = verdict
                    self._tell(verdict, known=known)
        ordered = [verdicts[task.task_id] for task in self.tasks if task.task_id in verdicts]
        if not self.stop.is_set():
            self.file.rewrite(ordered)
        return ordered

    def _judge(self, task: Task, grade_patch: GradePatch) -> tuple[Verdict | None, bool]:
        key = digest(task, runs=self.runs, backend=self.backend, limits=self.limits_of(task))
        if key in self._known:
            return self._known[key], True
        try:
            verdict = validate_task(
                task, self._unless_stopped(grade_patch), runs=self.runs, key=key
            )
        except _Stopped:
            return None, False
        self.file.append(verdict)
        return verdict, False

    def _unless_stopped(self, grade_patch: GradePatch) -> GradePatch:
        def grade_or_stop(task: Task, patch: bytes) -> Grade:
            if self.stop.is_set():
                raise _Stopped
            return grade_patch(task, patch)

        return grade_or_stop

    def _tell(self, verdict: Verdict, *, known: bool) -> None:
        self._done += 1
        word = "ok" if verdict.accepted else "EXCLUDED"
        place = f"[{self._done}/{len(self.tasks)}]"
        how = "known" if known else f"{verdict.seconds:.1f} s"
        print(f"{place} {word:8} {verdict.task_id} {how}", flush=True)
        self.events.write(
            TaskJudged(
                task_id=verdict.task_id,
                accepted=verdict.accepted,
                reason=verdict.reason,
                runs=self.runs,
                seconds=verdict.seconds,
                known=known,
            )
        )


def grader(backend_name: str, limits_of: LimitsOf = usual_limits) -> GradePatch:
    """Grades patches in fresh sandboxes of one backend, labelled as this process's own."""
    backend = configured_backend(backend_name)
    run = f"validate-{uuid4()}"

    def grade_patch(task: Task, patch: bytes) -> Grade:
        labels = SandboxLabels.held_here(
            run=run,
            rollout=str(uuid4()),
            for_s=SANDBOX_LIFE_S,
        )
        return grade(task, patch, backend, labels=labels, limits=limits_of(task))

    return grade_patch


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for its exit codes."""
    options = _options(argv)
    try:
        taskset = load_taskset(options.taskset)
    except TasksetError as error:
        print(error, file=sys.stderr)
        return 2
    out = options.out or Path("var/validation") / taskset.name
    with closing(EventWriter(out)) as events:
        total = len(taskset)
        events.write(Started(process="validate", source=options.taskset, total=total))
        try:
            verdicts, stopped = _validate(taskset.tasks, out, options, events)
        except SandboxUnavailable as error:
            events.write(Finished(status="failed", reason=str(error)))
            print(error, file=sys.stderr)
            return 2
        excluded = [verdict for verdict in verdicts if not verdict.accepted]
        status = "stopped" if stopped else "finished"
        count = f"{len(verdicts) - len(excluded)} of {total} tasks accepted"
        reason = f"Stopped with {len(verdicts)} judged: {count}." if stopped else f"{count}."
        events.write(Finished(status=status, reason=reason))
    print(reason if stopped else _summary(excluded, total))
    return 3 if stopped else 1 if excluded else 0


def _validate(
    tasks: Sequence[Task], out: Path, options: argparse.Namespace, events: EventWriter
) -> tuple[list[Verdict], bool]:
    """The verdicts, and whether it was stopped before the last."""
    changes = {name: getattr(options, name) for name in LIMITS if getattr(options, name)}

    def limits_of(task: Task) -> Limits:
        return replace(usual_limits(task), **changes)

    grade_patch = grader(options.backend, limits_of)
    validation = Validation(
        tasks,
        out,
        runs=options.runs,
        backend=options.backend,
        events=events,
        limits_of=limits_of,
        fresh=options.fresh,
    )
    before = signal.signal(signal.SIGTERM, lambda *_: validation.stop.set())
    try:
        verdicts = validation.run(grade_patch, jobs=options.jobs)
    finally:
        signal.signal(signal.SIGTERM, before)
    return verdicts, len(verdicts) < len(tasks)


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
    parser.add_argument(
        "--fresh", action="store_true", help="judge again what is known from an earlier validation"
    )
    parser.add_argument("--out", type=Path, help="default: var/validation/NAME")
    parser.add_argument(
        "--jobs",
        type=_positive,
        default=os.cpu_count() or 1,
        help="tasks at a time; default: cores",
    )
    for name, what in LIMITS.items():
        small, large = (getattr(limits, name) for limits in (Limits(), OF_IMAGES))
        told = f"{what}; default: {small:g}, or {large:g} where the repository is the image's own"
        parser.add_argument(f"--{name.replace('_', '-')}", type=_positive, help=told)
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: needs a whole number of at least 1")
    return int(text)


def _summary(excluded: Sequence[Verdict], total: int) -> str:
    if not excluded:
        return f"all {total} tasks accepted"
    width = max(len(verdict.task_id) for verdict in excluded)
    rows = [f"  {verdict.task_id:{width}}  {verdict.reason}" for verdict in excluded]
    return "\n".join([f"{len(excluded)} of {total} tasks excluded:", *rows])


if __name__ == "__main__":
    sys.exit(main())
