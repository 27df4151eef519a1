"""How a sandbox fails, and what each failure means for a rollout.

A failed *command* is never an exception: it is an `ExecResult` with its `end`. Exceptions are for a broken sandbox.
This module holds the exception tree and the one table that maps an `end` or an exception to the outcome of a rollout.
It does not decide whether the tests passed: that is `sandbox.grading`.

    SandboxError
    ├── SandboxUnavailable   the backend could not create a sandbox (daemon down, image missing, no room)
    ├── SandboxGone          the sandbox ended underneath us, by no action of the agent
    ├── SandboxDestroyed     the agent destroyed its own sandbox (removed /bin, killed PID 1, filled a node's disk)
    ├── SandboxPathError     a path cannot be read or written (missing, a link out, too large)
    └── TasksetError         a task or taskset is malformed: names the file, the value and the remedy
"""

from enum import StrEnum


class End(StrEnum):
    """How one command ended. Exactly one holds for every `ExecResult`."""

    EXITED = "exited"
    TIMEOUT = "timeout"
    OUTPUT_LIMIT = "output_limit"
    OOM = "oom"
    SANDBOX_GONE = "sandbox_gone"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """What a rollout is worth to training. INFRA carries no reward and counts nowhere."""

    TASK = "task"
    AGENT_FAULT = "agent_fault"
    INFRA = "infra"


class SandboxError(Exception):
    """Base of everything this package raises."""


class SandboxUnavailable(SandboxError):
    """No sandbox could be created. The command was never run, so creation may be retried."""


class SandboxGone(SandboxError):
    """The sandbox vanished for a reason outside the agent's reach."""


class SandboxDestroyed(SandboxError):
    """The agent's own actions left the sandbox unusable."""


class SandboxPathError(SandboxError, OSError):
    """A path inside the sandbox cannot be read or written."""


class TasksetError(SandboxError, ValueError):
    """A task or taskset is malformed."""


OUTCOME_OF_END: dict[End, Outcome] = {
    End.EXITED: Outcome.TASK,
    End.TIMEOUT: Outcome.TASK,
    End.OUTPUT_LIMIT: Outcome.TASK,
    End.OOM: Outcome.TASK,
    End.SANDBOX_GONE: Outcome.INFRA,
    End.UNKNOWN: Outcome.INFRA,
}
"""A command that timed out, flooded or ran out of memory is an observation: the rollout goes on and is graded."""

OUTCOME_OF_ERROR: dict[type[SandboxError], Outcome] = {
    SandboxUnavailable: Outcome.INFRA,
    SandboxGone: Outcome.INFRA,
    SandboxDestroyed: Outcome.AGENT_FAULT,
    SandboxPathError: Outcome.INFRA,
    TasksetError: Outcome.INFRA,
}


def outcome_of(error: SandboxError) -> Outcome:
    """The outcome of a rollout that ended with `error`; the most specific class in the table decides."""
    for cls in type(error).__mro__:
        if cls in OUTCOME_OF_ERROR:
            return OUTCOME_OF_ERROR[cls]
    return Outcome.INFRA
