"""A task inside a sandbox: reset, step, patch. What the model wrote goes in, what it reads comes
out; tokens are unknown here.

Exceptions of `sandbox.errors` rise out of `reset`, `step` and `patch`; `sandbox.errors.outcome_of`
says what each means for the rollout. Grading happens elsewhere and never in the agent's sandbox:
`sandbox.grading`, whose names are also offered here.
"""

import json
from dataclasses import dataclass

from sandbox.actions import parse
from sandbox.base import Backend, ExecResult, Sandbox, SandboxLabels, SandboxSpec
from sandbox.errors import OUTCOME_OF_END, Outcome, SandboxGone
from sandbox.grading.grade import Grade, GradeCache, grade
from sandbox.limits import Limits, spec_of
from sandbox.observations import FINISHED, error_observation, observation
from sandbox.suspicion import suspicions
from sandbox.task import Task
from sandbox.tool_folder import TOOL_FOLDER
from sandbox.trajectory import Action

_VENV = "/testbed/.venv/bin"
"""The repository's own Python, in images laid out as R2E-Gym's."""
_SHELL = f'PATH={_VENV}:$PATH exec bash -c "$1"'
_TOOL = f'PATH=$PATH:{_VENV} exec python3 -I -S "$1"'
"""By the image's Python where there is one, since the agent may have broken its own."""

__all__ = ["Environment", "Grade", "GradeCache", "Limits", "StepResult", "grade"]


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One turn. `error` is set when the call could not be run; `exit_code` only when a tool ran and
    exited by itself.
    """

    action: Action | None
    error: str
    thought: str
    observation: str
    observation_truncated: bool
    exit_code: int | None
    tool_s: float
    done: bool
    """The agent called finish."""


class Environment:
    """One rollout's task and sandbox. Not thread-safe: one thread drives it."""

    def __init__(
        self, task: Task, backend: Backend, *, labels: SandboxLabels, limits: Limits
    ) -> None:
        self._backend, self._limits = backend, limits
        self._spec: SandboxSpec = spec_of(task, labels=labels, limits=limits)
        self._sandbox: Sandbox | None = None
        self.flags: frozenset[str] = frozenset()
        """What the agent's commands so far are worth a reader's look for: `sandbox.suspicion`."""

    def reset(self) -> None:
        """A fresh sandbox with the task's repository. Raises SandboxUnavailable."""
        self.close()
        self._sandbox = self._backend.create(self._spec)

    def step(self, text: str) -> StepResult:
        """Run the first call in what the model wrote. Raises SandboxGone, SandboxDestroyed."""
        action, error, thought = parse(text)
        max_chars = self._limits.max_observation_chars
        if error or action is None:
            shown, truncated = error_observation(error, max_chars)
            exit_code, tool_s = None, 0.0
        elif action.tool == "finish":
            shown, truncated, exit_code, tool_s = FINISHED, False, None, 0.0
        else:
            result = self._run(action)
            shown, truncated = observation(
                action.tool, result, timeout_s=self._limits.command_timeout_s, max_chars=max_chars
            )
            exit_code, tool_s = result.exit_code, result.duration_s
        return StepResult(
            action=action,
            error=error,
            thought=thought,
            observation=shown,
            observation_truncated=truncated,
            exit_code=exit_code,
            tool_s=tool_s,
            done=not error and action is not None and action.tool == "finish",
        )

    def patch(self) -> bytes:
        """The agent's change as a git patch; empty when there is none. Raises SandboxDestroyed,
        SandboxGone.
        """
        return self._ready().diff()

    def close(self) -> None:
        """Remove the sandbox. Safe to call at any time."""
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None

    def _run(self, action: Action) -> ExecResult:
        if action.tool == "execute_bash":
            self.flags |= suspicions(action.arguments["cmd"])
            argv, stdin = ["sh", "-c", _SHELL, "sh", action.arguments["cmd"]], None
        else:
            argv = ["sh", "-c", _TOOL, "sh", f"{TOOL_FOLDER}/{action.tool}.py"]
            stdin = json.dumps(action.arguments).encode()
        result = self._ready().exec(argv, stdin=stdin, timeout_s=self._limits.command_timeout_s)
        if OUTCOME_OF_END[result.end] is Outcome.INFRA:
            raise SandboxGone(f"{action.tool}: the sandbox ended under the command ({result.end})")
        return result

    def _ready(self) -> Sandbox:
        if self._sandbox is None:
            raise SandboxGone("environment not started: call reset() first")
        return self._sandbox
