"""Graders: each runs the hidden tests of one kind of task in a sandbox that holds the patched repository, and judges.

`sandbox.grading` has made the sandbox, applied the patch and put back what steers the test runner. It
chooses a grader by `Task.grading` and closes the sandbox afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sandbox.base import Sandbox
from sandbox.grading.verdict import Verdict
from sandbox.task import Task


@dataclass(frozen=True, kw_only=True)
class Job:
    """A patched repository to be graded."""

    task: Task
    sandbox: Sandbox
    hidden: bytes
    """A tar archive of what the task's image held hidden; empty for tasks that bring their files."""
    flags: frozenset[str]
    """What applying the patch has shown about it."""
    patch: bytes
    timeout_s: float


Grader = Callable[[Job], tuple[Verdict, bytes]]
"""The verdict, and what the run printed. Raises SandboxGone, SandboxPathError, TasksetError."""

TEST_ENV = {"PYTHONHASHSEED": "0", "TZ": "UTC"}
MAX_LOG_BYTES = 4 << 20
