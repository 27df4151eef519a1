"""Grade a patch: apply it in a fresh sandbox that never held the agent, lay the hidden tests there,
run them, judge.

The order matters: the patch is applied and everything that steers the test runner is put back to
the task's own before the hidden tests exist. How tests are run and judged depends on where a task
comes from: `GRADERS`. What is put back is `sandbox.grading.protected`.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sandbox import snapshot
from sandbox.base import Backend, Sandbox, SandboxLabels
from sandbox.errors import (
    End,
    Outcome,
    SandboxDestroyed,
    SandboxGone,
    SandboxPathError,
    SandboxUnavailable,
)
from sandbox.grading.graders import MAX_LOG_BYTES, Grader, Job
from sandbox.grading.graders.r2e import grade_r2e
from sandbox.grading.graders.reported import grade_reported
from sandbox.grading.graders.swebench import grade_swebench
from sandbox.grading.graders.swesmith import grade_swesmith
from sandbox.grading.protected import Protection, protect, read_changes
from sandbox.grading.verdict import Verdict
from sandbox.limits import Limits, spec_of
from sandbox.task import Task

log = logging.getLogger(__name__)

GRADERS: Mapping[str, Grader] = {
    "reported": grade_reported,
    "r2e": grade_r2e,
    "swebench": grade_swebench,
    "swesmith": grade_swesmith,
}
_ATTEMPTS = 2
"""Grading has no side effect outside its sandbox, so an infrastructure failure is tried once more.
"""
_APPLY_TIMEOUT_S = 60.0
MAX_KEPT = 1000
"""Grades in a cache: a step's rollouts, or those of an evaluation that are under way, fit in several times."""

_BEFORE = "refs/studio/before"
"""The tree as it was, with what an image's repository ignores (its `.venv`): none of that is the patch's."""
_APPLY = f"""
set -e
git add -A -f .
git update-ref {_BEFORE} "$(git write-tree)"
git apply --whitespace=nowarn -p1 - || exit 9
git add -A -f .
git diff --cached --name-status -z --no-renames {_BEFORE}
"""


@dataclass(frozen=True, kw_only=True)
class Grade:
    """What a patch is worth. `reward` is None if and only if `outcome` is INFRA."""

    reward: float | None
    outcome: Outcome
    tests: dict[str, str]
    """Test -> PASSED, FAILED or ERROR, named as the task's expected output names them."""
    flags: frozenset[str]
    """Of tampered, edited_tests, startup_hook, path_shim, early_exit, forged_log,
    truncated_output.
    """
    log: bytes
    """What the test run printed."""
    seconds: float
    reason: str
    """One sentence."""
    reused: bool = False
    """Taken from an earlier grading of the same patch."""


def grade(
    task: Task, patch: bytes, backend: Backend, *, labels: SandboxLabels, limits: Limits
) -> Grade:
    """The grade of `patch` on `task`. Raises TasksetError for a task that cannot be graded."""
    began, reason = time.monotonic(), ""
    for _ in range(_ATTEMPTS):
        try:
            verdict, output = _grade_once(task, patch, backend, labels=labels, limits=limits)
        except (SandboxUnavailable, SandboxGone, SandboxPathError) as error:
            log.warning("grading %s: %s", task.task_id, error)
            reason = f"No sandbox to grade in: {error}"
            continue
        except SandboxDestroyed as error:
            seconds = time.monotonic() - began
            return _destroyed(f"The patch destroyed its sandbox: {error}", seconds)
        if verdict.outcome is not Outcome.INFRA:
            seconds = time.monotonic() - began
            return Grade(**{**vars(verdict)}, log=output, seconds=seconds)
        reason = verdict.reason
    return _infra(reason, time.monotonic() - began)


def _infra(reason: str, seconds: float) -> Grade:
    return Grade(
        reward=None,
        outcome=Outcome.INFRA,
        tests={},
        flags=frozenset(),
        log=b"",
        seconds=seconds,
        reason=reason,
    )


def _destroyed(reason: str, seconds: float) -> Grade:
    return Grade(
        reward=0.0,
        outcome=Outcome.AGENT_FAULT,
        tests={},
        flags=frozenset(),
        log=b"",
        seconds=seconds,
        reason=reason,
    )


def _grade_once(
    task: Task, patch: bytes, backend: Backend, *, labels: SandboxLabels, limits: Limits
) -> tuple[Verdict, bytes]:
    spec = spec_of(task, labels=labels, limits=limits)
    sandbox = backend.create(spec)
    try:
        flags = apply_patch(sandbox, patch)
        if isinstance(flags, Verdict):
            return flags, b""
        job = Job(
            task=task,
            sandbox=sandbox,
            hidden=backend.hidden_files(spec) if task.hidden_files else b"",
            flags=flags,
            patch=patch,
            timeout_s=task.grading_timeout_s or limits.grading_timeout_s,
        )
        return GRADERS[task.grading](job)
    finally:
        sandbox.close()


def apply_patch(sandbox: Sandbox, patch: bytes) -> frozenset[str] | Verdict:
    """Apply it, and put back what of it steers the test runner: its flags, or the verdict on one that cannot be applied.

    Raises SandboxGone, SandboxDestroyed.
    """
    if not patch:
        return frozenset()
    applied = _apply(sandbox, patch)
    if isinstance(applied, Verdict):
        return applied
    _undo(sandbox, applied)
    return applied.flags


def _apply(sandbox: Sandbox, patch: bytes) -> Protection | Verdict:
    """Apply the patch; what of it must be undone, or the verdict on one that cannot be applied."""
    before = _pyproject(sandbox) if b"pyproject.toml" in patch else ""
    result = sandbox.exec(
        ["sh", "-c", _APPLY],
        stdin=patch,
        env=snapshot.GIT_ENV,
        timeout_s=_APPLY_TIMEOUT_S,
        max_output_bytes=MAX_LOG_BYTES,
    )
    if result.end in (End.SANDBOX_GONE, End.UNKNOWN):
        raise SandboxGone(f"sandbox {sandbox.id}: ended while the patch was applied ({result.end})")
    if not result.ok:
        said = result.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = f"The patch does not apply: {said[0] if said else result.end}."
        return Verdict(reward=0.0, outcome=Outcome.TASK, tests={}, flags=frozenset(), reason=reason)
    after = _pyproject(sandbox) if b"pyproject.toml" in patch else ""
    return protect(read_changes(result.stdout), (before, after))


def _pyproject(sandbox: Sandbox) -> str:
    result = sandbox.exec(["cat", "pyproject.toml"], timeout_s=_APPLY_TIMEOUT_S)
    return result.stdout.decode("utf-8", "replace")


def _undo(sandbox: Sandbox, protection: Protection) -> None:
    if protection.removed:
        _on_paths(sandbox, ["xargs", "-0", "rm", "-rf", "--"], protection.removed)
    if protection.restored:
        checkout = [
            "git",
            "--literal-pathspecs",
            "checkout",
            "-q",
            _BEFORE,
            "--pathspec-from-file=-",
            "--pathspec-file-nul",
        ]
        _on_paths(sandbox, checkout, protection.restored)


def _on_paths(sandbox: Sandbox, argv: list[str], paths: tuple[str, ...]) -> None:
    stdin = "\0".join((*paths, "")).encode("utf-8", "surrogateescape")
    result = sandbox.exec(argv, stdin=stdin, env=snapshot.GIT_ENV, timeout_s=_APPLY_TIMEOUT_S)
    if not result.ok:
        raise SandboxGone(
            f"sandbox {sandbox.id}: {' '.join(argv[:2])} on {len(paths)} files: "
            f"{result.stderr[-300:]!r}"
        )


class GradeCache:
    """Grades by (task, patch), thread-safe: two threads that ask for the same patch grade it once.
    INFRA is never kept, and of the others the newest `max_kept`, because each has its log.
    """

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._lock = threading.Lock()
        self._busy: dict[tuple[str, str], threading.Lock] = {}
        self._grades: dict[tuple[str, str], Grade] = {}

    def grade(
        self, task: Task, patch: bytes, backend: Backend, *, labels: SandboxLabels, limits: Limits
    ) -> Grade:
        """As `grade`, with `reused` set when the grade was known."""
        key = (task.task_id, hashlib.sha256(patch).hexdigest())
        with self._lock:
            busy = self._busy.setdefault(key, threading.Lock())
        with busy:
            known = self._grades.get(key)
            if known is not None:
                return replace(known, reused=True)
            graded = grade(task, patch, backend, labels=labels, limits=limits)
            if graded.outcome is Outcome.TASK:
                self._keep(key, graded)
            return graded

    def _keep(self, key: tuple[str, str], graded: Grade) -> None:
        with self._lock:
            self._grades[key] = graded
            while len(self._grades) > self._max_kept:
                oldest = next(iter(self._grades))
                del self._grades[oldest]
                self._busy.pop(oldest, None)
