"""Count what a patch does to tests that are no secret: the repository's own, and a script written to show the issue.

As R2E-Gym's execution-based verifier counts (arXiv 2504.07164, section 4): regression tests are those of the repository that
passed before and still pass; reproduction tests are the cases of one script, REPRODUCTION_FILE, each of which prints
REPRODUCED while the issue is there and RESOLVED when it is gone. A case that says RESOLVED in the untouched repository tells
nothing and is taken off. A patch could print the words itself: where there are more of such lines than the script has cases,
none counts. Nothing here judges: hidden tests and rewards are `sandbox.grading`'s.
"""

import logging
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from sandbox import snapshot
from sandbox.base import Backend, ExecResult, Sandbox, SandboxLabels
from sandbox.errors import (
    OUTCOME_OF_END,
    Outcome,
    SandboxDestroyed,
    SandboxGone,
    SandboxPathError,
    SandboxUnavailable,
)
from sandbox.grading.counts import Counts
from sandbox.grading.grade import apply_patch
from sandbox.grading.graders import MAX_LOG_BYTES, TEST_ENV
from sandbox.grading.summary import read_summary
from sandbox.grading.verdict import Verdict
from sandbox.limits import Limits, spec_of
from sandbox.task import Task

log = logging.getLogger(__name__)

REPRODUCTION_FILE = "test_issue.py"
REPRODUCED, RESOLVED = "Issue reproduced", "Issue resolved"
ATTEMPTS = 2
"""Counting has no side effect outside its sandbox, so an infrastructure failure is tried once more."""

_PATH = "PATH=/testbed/.venv/bin:$PATH"
_REPOSITORY_TESTS = (
    f"{_PATH} exec python3 -m pytest -q -rA --tb=no --color=no -p no:cacheprovider "
    f"--continue-on-collection-errors --ignore={REPRODUCTION_FILE} 2>&1"
)
_LAY = f"rm -rf {REPRODUCTION_FILE}; git apply --include={REPRODUCTION_FILE} -p1 -"
_REPRODUCE = f"{_PATH} exec python3 {REPRODUCTION_FILE} 2>&1"
_LAY_TIMEOUT_S = 60.0

Found = TypeVar("Found")


class Before(NamedTuple):
    """What holds in the repository as the task gives it."""

    passed: frozenset[str]
    """Node ids of the repository's own tests that pass."""
    num_reproduced: int
    """Cases of the script that say the issue is there."""
    num_resolved: int
    """Cases that say it is not, and so tell nothing."""

    def num_solved_of(self, said: Counter[str]) -> int:
        """Cases that showed the issue and say it is resolved; none when there are more lines than cases: they are forged."""
        num_cases = self.num_reproduced + self.num_resolved
        if said[REPRODUCED] + said[RESOLVED] > num_cases:
            return 0
        return max(0, said[RESOLVED] - self.num_resolved) if self.num_reproduced else 0


class OpenTests:
    """A task's open tests, in sandboxes of one backend. Thread-safe: each call has sandboxes of its own."""

    def __init__(
        self, task: Task, script: bytes, backend: Backend, *, labels: SandboxLabels, limits: Limits
    ) -> None:
        """`script` is a git patch (-p1) that makes REPRODUCTION_FILE; empty for none."""
        self._task, self._script = task, script
        self._backend, self._limits = backend, limits
        self._spec = spec_of(task, labels=labels, limits=limits)

    def before(self) -> Before | None:
        """In the untouched repository; None when no sandbox was to be had."""

        def look(sandbox: Sandbox) -> Before:
            passed, said = self._passed(sandbox), self._said(sandbox)
            return Before(passed, said[REPRODUCED], said[RESOLVED])

        return self._in_sandbox(look)

    def num_reproduced(self) -> int | None:
        """As in `before`, without the repository's own tests."""
        return self._in_sandbox(lambda sandbox: self._said(sandbox)[REPRODUCED])

    def count(self, patch: bytes, before: Before) -> Counts | None:
        """Of `patch`; None when no sandbox was to be had. Nothing holds for one that does not apply."""

        def look(sandbox: Sandbox) -> Counts:
            if isinstance(apply_patch(sandbox, patch, self._task.gold_patch), Verdict):
                return Counts(0, 0)
            still = len(self._passed(sandbox) & before.passed) if before.passed else 0
            return Counts(still, before.num_solved_of(self._said(sandbox)))

        try:
            return self._in_sandbox(look)
        except SandboxDestroyed as error:
            log.info("%s: a patch destroyed its sandbox: %s", self._task.task_id, error)
            return Counts(0, 0)

    def _in_sandbox(self, look: Callable[[Sandbox], Found]) -> Found | None:
        """Raises SandboxDestroyed."""
        for _ in range(ATTEMPTS):
            try:
                sandbox = self._backend.create(self._spec)
                try:
                    return look(sandbox)
                finally:
                    sandbox.close()
            except (SandboxUnavailable, SandboxGone, SandboxPathError) as error:
                log.warning("%s: %s", self._task.task_id, error)
        return None

    def _passed(self, sandbox: Sandbox) -> frozenset[str]:
        timeout_s = self._task.grading_timeout_s or self._limits.grading_timeout_s
        result = _run(sandbox, _REPOSITORY_TESTS, timeout_s)
        lines = read_summary(result.stdout).lines
        return frozenset(node for status, node in lines if status == "PASSED")

    def _said(self, sandbox: Sandbox) -> Counter[str]:
        """The lines that the script prints, counted; none without a script."""
        if not self._script or not _run(sandbox, _LAY, _LAY_TIMEOUT_S, stdin=self._script).ok:
            return Counter()
        result = _run(sandbox, _REPRODUCE, self._limits.grading_timeout_s)
        return Counter(map(str.strip, result.stdout.decode(errors="replace").splitlines()))


def _run(
    sandbox: Sandbox, script: str, timeout_s: float, *, stdin: bytes | None = None
) -> ExecResult:
    """Raises SandboxGone, SandboxDestroyed."""
    result = sandbox.exec(
        ["sh", "-c", script],
        stdin=stdin,
        env=TEST_ENV | snapshot.GIT_ENV,
        timeout_s=timeout_s,
        max_output_bytes=MAX_LOG_BYTES,
    )
    if OUTCOME_OF_END[result.end] is Outcome.INFRA:
        raise SandboxGone(f"sandbox {sandbox.id}: ended under its tests ({result.end})")
    return result
