"""What a command in a pod came to: the frames of its connection, the pod's own status and the kernel's counters, as one `end`.

This is where "the connection broke" becomes "the agent's memory ran out", "the cluster took the pod" or "nobody
knows". Nothing that the agent can print takes part in it. A command is never run twice.
"""

import logging
import time
from collections.abc import Mapping, Sequence

from sandbox.base import COMMAND_ENV, ExecResult
from sandbox.errors import End, SandboxDestroyed, SandboxError, SandboxGone
from sandbox.kubernetes.api import Api, ApiError
from sandbox.kubernetes.exec import ExecRefused, Finished, run_exec
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.kubernetes.reap import delete
from sandbox.kubernetes.status import PodStatus
from sandbox.kubernetes.supervisor import PodUser, supervised
from sandbox.kubernetes.watch import PodWatch

log = logging.getLogger(__name__)

_CLEAN_TIMEOUT_S = 10.0
_EXPLAIN_S = 6.0
"""How long the cluster may take to say what became of a pod whose connection broke; a node looks once a second."""
_GRACE_S = 1.5
"""Beyond a command's own deadline."""
_CLEAN_GRACE_S = 1.0
_ALIVE_S = 0.7
"""How long an API server that did not answer in time may take to show that it lives."""


class PodCommands:
    """Commands in one pod, one after another. Not thread-safe."""

    def __init__(self, api: Api, watch: PodWatch, pod: str, options: KubernetesOptions) -> None:
        self._api, self._watch, self._pod, self._options = api, watch, pod, options
        self._oom_kills = 0
        self._lost = ""
        """Why no further command may run, though the pod may."""
        self._dead: PodStatus | None = None
        """What an earlier command found the pod to be."""
        self._closed = False

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None,
        cwd: str,
        env: Mapping[str, str],
        user: PodUser,
        timeout_s: float,
        max_output_bytes: int,
        capabilities: bool = False,
    ) -> ExecResult:
        """Run `argv`; afterwards none of its processes is left. Raises SandboxGone, SandboxDestroyed."""
        if self._dead is not None:
            raise self._broken(self._dead, "")
        if self._lost:
            raise SandboxGone(f"sandbox {self._pod}: {self._lost}")
        words = supervised(
            argv,
            stdin_bytes=None if stdin is None else len(stdin),
            cwd=cwd,
            env=env,
            user=user,
            capabilities=capabilities,
        )
        deadline = time.monotonic() + timeout_s
        try:
            finished = self._exec(words, stdin, deadline, max_output_bytes)
        except ExecRefused as error:
            status = self._explained(deadline)
            raise self._broken(status, f"no command can be run: {error}") from error
        end, exit_code = self._end_of(finished, deadline)
        return _result(finished, end, exit_code, max_output_bytes)

    def _exec(
        self, words: Sequence[str], stdin: bytes | None, deadline: float, max_output_bytes: int
    ) -> Finished:
        return run_exec(
            self._api,
            self._pod,
            words,
            stdin=stdin,
            deadline=deadline,
            handshake_timeout_s=self._options.request_timeout_s,
            max_output_bytes=max_output_bytes,
        )

    def _end_of(self, finished: Finished, deadline: float) -> tuple[End, int | None]:
        if finished.trailer is not None:
            oom = finished.trailer.oom_kills > self._oom_kills
            self._oom_kills = finished.trailer.oom_kills
            # A command that fails after the kernel killed one of its processes failed for want of memory.
            if oom and finished.trailer.exit_code:
                return End.OOM, None
            return End.EXITED, finished.trailer.exit_code
        if finished.end is not None:
            return self._given_up(finished.end, deadline), None
        return self._lost_end(finished, deadline), None

    def _given_up(self, end: End, deadline: float) -> End:
        """Of a command that did not end by itself; what it left is ended, here or before the next command.

        UNKNOWN if the API server is silent: then the command's end may not have reached us.
        """
        latest = min(time.monotonic() + _CLEAN_TIMEOUT_S, deadline + _CLEAN_GRACE_S)
        if self._end_processes(latest) or self._api.answers(_ALIVE_S):
            return end
        self._lost = "how an earlier command ended is unknown: no answer from the API server"
        return End.UNKNOWN

    def _end_processes(self, latest: float) -> bool:
        """End what a command left that was given up; False if that was not done by then."""
        words = supervised(["true"], stdin_bytes=None, cwd="/", env=COMMAND_ENV, user="root")
        try:
            done = self._exec(words, None, latest, 0)
        except ExecRefused:
            return False
        if done.trailer is not None:
            self._oom_kills = done.trailer.oom_kills
        return done.trailer is not None

    def _lost_end(self, finished: Finished, deadline: float) -> End:
        """Of a command whose streams did not come whole. Raises SandboxDestroyed."""
        status = self._explained(deadline)
        log.warning(
            "sandbox %s: command without an end: %s; pod: %s",
            self._pod, finished.error, status.dead or "alive",
        )  # fmt: skip
        if status.dead:
            self._dead = status
        if status.oom:
            return End.OOM
        if status.agents_doing:
            raise self._broken(status, "")
        if status.dead or self._closed:
            return End.SANDBOX_GONE
        self._lost = f"how an earlier command ended is unknown: {finished.error}"
        return End.UNKNOWN

    def _explained(self, deadline: float) -> PodStatus:
        """The pod's status, once it says why the pod is dead or the time for that is over."""
        left = min(_EXPLAIN_S, max(0.0, deadline - time.monotonic()) + _GRACE_S)
        return self._watch.wait_for(self._pod, lambda s: bool(s.dead), left) or PodStatus()

    def _broken(self, status: PodStatus, otherwise: str) -> SandboxError:
        kind = SandboxDestroyed if status.agents_doing else SandboxGone
        return kind(f"sandbox {self._pod}: {status.dead or otherwise}")

    def renew(self, annotations: Mapping[str, str]) -> None:
        """Write `annotations` on the pod; from any thread. Raises SandboxGone."""
        body = {"metadata": {"annotations": dict(annotations)}}
        try:
            pod = self._api.call("PATCH", self._api.path("pods", self._pod), body=body)
        except ApiError as error:
            raise SandboxGone(f"sandbox {self._pod}: lease not renewed: {error}") from error
        if "deletionTimestamp" in pod["metadata"]:
            raise SandboxGone(f"sandbox {self._pod}: lease not renewed: the pod is being deleted")

    def close(self) -> None:
        """Have the pod removed; from any thread. Never raises."""
        self._closed = True
        if not self._watch.removed(self._pod):
            delete(self._api, "pods", self._pod)
        self._watch.forget(self._pod)


def _result(finished: Finished, end: End, exit_code: int | None, cap: int) -> ExecResult:
    over = finished.overflowed | {n for n, s in finished.streams.items() if len(s) > cap}
    return ExecResult(
        stdout=bytes(finished.streams["stdout"][:cap]),
        stderr=bytes(finished.streams["stderr"][:cap]),
        end=end,
        exit_code=exit_code,
        duration_s=finished.duration_s,
        stdout_truncated="stdout" in over,
        stderr_truncated="stderr" in over,
    )
