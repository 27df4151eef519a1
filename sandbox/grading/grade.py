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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

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
from sandbox.grading.protected import PYPROJECT, Change, Protection, protect, read_changes
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
MAX_KEPT_BYTES = 64 << 20
"""Of all grades in a cache. With usual logs a step's rollouts, or those of an evaluation that are under way, fit in several
times.
"""
_GRADE_BYTES = 1024
"""Of a grade without log and tests, about."""

_REFUSED = 9
"""The script's exit code when git does not take the patch, or has no room for it."""
_BEFORE = "refs/studio/before"
"""The tree as it was, with what an image's repository ignores (its `.venv`): none of that is the patch's."""
_APPLY = f"""
set -e
git add -A -f .
git update-ref {_BEFORE} "$(git write-tree)"
git apply --whitespace=nowarn -p1 - || exit {_REFUSED}
git add -A -f . && git diff --cached --name-status -z --no-renames {_BEFORE} || exit {_REFUSED}
"""
_TEXTS = f"""
for path do
  git cat-file blob "{_BEFORE}:$path" 2>/dev/null | tr '\\0' '='; printf '\\0'
  if [ -L "$path" ]; then printf =; elif [ -f "$path" ]; then tr '\\0' '=' < "$path"; fi; printf '\\0'
done
"""
"""Each file before and after, NUL at the end of each; a link is no TOML."""
_MAX_TEXTS, _MAX_TEXT_BYTES = 50, 128 << 10
"""Of pyproject.toml files that are looked at; a patch with more of them is no fix."""


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
        flags = apply_patch(sandbox, patch, task.gold_patch)
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


def apply_patch(sandbox: Sandbox, patch: bytes, gold_patch: str = "") -> frozenset[str] | Verdict:
    """Apply it, and put back what of it steers the test runner: its flags, or the verdict on one that cannot be applied.

    What the gold patch changes is source. Raises SandboxGone, SandboxDestroyed.
    """
    if not patch:
        return frozenset()
    applied = _apply(sandbox, patch, gold_patch)
    if isinstance(applied, Verdict):
        return applied
    _undo(sandbox, applied)
    return applied.flags


def _apply(sandbox: Sandbox, patch: bytes, gold_patch: str) -> Protection | Verdict:
    """Apply the patch; what of it must be undone, or the verdict on one that cannot be applied."""
    result = sandbox.exec(
        ["sh", "-c", _APPLY],
        stdin=patch,
        env=snapshot.GIT_ENV,
        timeout_s=_APPLY_TIMEOUT_S,
        max_output_bytes=MAX_LOG_BYTES,
    )
    if result.exit_code == _REFUSED or result.end is End.OUTPUT_LIMIT:
        said = result.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = f"The patch does not apply: {said[0] if said else result.end}."
        return Verdict(reward=0.0, outcome=Outcome.TASK, tests={}, flags=frozenset(), reason=reason)
    if not result.ok:
        raise SandboxGone(
            f"sandbox {sandbox.id}: patch not applied ({result.end}, exit code {result.exit_code}): "
            f"{result.stderr[-300:]!r}"
        )
    changes = read_changes(result.stdout)
    return protect(changes, _pyprojects(sandbox, changes), gold_patch)


def _pyprojects(sandbox: Sandbox, changes: Sequence[Change]) -> dict[str, tuple[str, str]]:
    """Each changed pyproject.toml -> its text before and after; none of them when they are too many or too large."""
    paths = [c.path for c in changes if PurePosixPath(c.path).name == PYPROJECT]
    if not 0 < len(paths) <= _MAX_TEXTS:
        return {}
    result = sandbox.exec(
        ["xargs", "-0", "sh", "-c", _TEXTS, "sh"],
        stdin=_named(paths),
        env=snapshot.GIT_ENV,
        timeout_s=_APPLY_TIMEOUT_S,
        max_output_bytes=_MAX_TEXT_BYTES,
    )
    if result.end is End.OUTPUT_LIMIT:
        return {}
    if not result.ok:
        raise SandboxGone(f"sandbox {sandbox.id}: {PYPROJECT} not read: {result.stderr[-300:]!r}")
    texts = result.stdout.decode("utf-8", "replace").split("\0")[:-1]
    return dict(zip(paths, zip(texts[::2], texts[1::2], strict=True), strict=True))


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
    result = sandbox.exec(
        argv, stdin=_named(paths), env=snapshot.GIT_ENV, timeout_s=_APPLY_TIMEOUT_S
    )
    if not result.ok:
        raise SandboxGone(
            f"sandbox {sandbox.id}: {' '.join(argv[:2])} on {len(paths)} files: "
            f"{result.stderr[-300:]!r}"
        )


def _named(paths: Sequence[str]) -> bytes:
    return "\0".join((*paths, "")).encode("utf-8", "surrogateescape")


class GradeCache:
    """Grades by (task, patch), thread-safe: two threads that ask for the same patch grade it once.
    Those of outcome TASK are kept, the newest of them to `max_bytes` together, because each has its log.
    """

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._max_bytes, self._num_bytes = max_bytes, 0
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
            if replaced := self._grades.pop(key, None):
                self._num_bytes -= _size(replaced)
            self._grades[key] = graded
            self._num_bytes += _size(graded)
            while self._num_bytes > self._max_bytes and len(self._grades) > 1:
                oldest = next(iter(self._grades))
                self._num_bytes -= _size(self._grades.pop(oldest))
                self._busy.pop(oldest, None)


def _size(graded: Grade) -> int:
    return _GRADE_BYTES + len(graded.log) + sum(map(len, graded.tests))
