"""One container as a sandbox: its commands, its files, its patch, and how each of its failures is classified.

Whose fault a failure is comes from the engine alone (exit states, inspection, events), never from what a command
printed. After each command everything that it left is killed; a container in which that fails is removed, since
nothing that the agent started may run between commands.
"""

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound

from sandbox import snapshot
from sandbox.base import COMMAND_ENV, DEFAULT_MAX_OUTPUT_BYTES, ExecResult, SandboxSpec, User
from sandbox.docker import options, processes
from sandbox.docker.api import LOST, EngineApi, answering_by
from sandbox.docker.events import EngineEvents
from sandbox.docker.exec import Command, Ran, exec_exit_code, run_exec
from sandbox.errors import (
    OUTCOME_OF_END,
    End,
    Outcome,
    SandboxDestroyed,
    SandboxError,
    SandboxGone,
    SandboxUnavailable,
)
from sandbox.files import read_file, said, write_file
from sandbox.labels import lease_name
from sandbox.tool_folder import OWNER, TOOL_FOLDER, tools_archive

log = logging.getLogger(__name__)

_UIDS: dict[User, str] = {"agent": options.AGENT, "root": options.ROOT}
_GIT_TIMEOUT_S = 60.0
_OOM_EVENT_S = 0.5
"""How long after a command the engine may still be telling of an out-of-memory kill."""
_KILL_ATTEMPTS = 4
_KILLED = (0, 1)
"""Of `kill -9 -1`: something was there to kill, or nothing was."""
_SIGKILLED = 137
_AGENT_UID = options.AGENT.partition(":")[0]
_GONE = (404, 409)
"""The engine's answer when a container is gone, or being removed already."""
_IN_FOLDER = 'cd -- "$1" && shift && exec "$@"'
# The archive is counted on its way to tar: a connection that is cut ends it cleanly.
_UNPACK = "{ { tee /dev/fd/4 | wc -c >&3; } 4>&1 | tar -xf - --no-same-owner; } 3>&1"
_DIFF = 'sh -c "$1" sh "$2" "$3"; code=$?; rm -rf -- "$2"; exit $code'


class DockerSandbox:
    """One container. Not thread-safe."""

    def __init__(
        self,
        sandbox_id: str,
        container: Any,
        spec: SandboxSpec,
        base: snapshot.Base,
        events: EngineEvents,
    ) -> None:
        self.id = sandbox_id
        self._container, self._spec, self._base, self._events = container, spec, base, events
        self._api: EngineApi = container.client.api
        self._closed = False
        self._count_file: Path | None = None
        self._lost = ""
        """Why no further command may run, though the container may."""
        events.watch(container.id)

    def start(self) -> None:
        """Start the container and lay out our tools and its working tree. Raises APIError, OSError, SandboxUnavailable."""
        self._container.start()
        first = self._api.inspect_container(self._container.id)["State"]["Pid"]
        self._count_file = processes.count_file(self._container.id, first)
        self._unpack(tools_archive(), TOOL_FOLDER, OWNER)
        self._unpack(self._base.testbed, self._spec.workdir, options.AGENT)

    def exec(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: User = "agent",
        timeout_s: float,
        max_output_bytes: int = DEFAULT_MAX_OUTPUT_BYTES,
    ) -> ExecResult:
        """See `Sandbox.exec`. Raises SandboxGone, SandboxDestroyed."""
        command = self._command(
            argv, stdin, cwd, env, _UIDS[user], timeout_s=timeout_s, cap=max_output_bytes
        )
        return self._run(command)

    def read(self, path: str, limit_bytes: int) -> bytes:
        """The regular file at absolute `path`. Raises SandboxPathError."""
        return read_file(self, path, limit_bytes)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Create or replace the file at absolute `path`. Raises SandboxPathError."""
        write_file(self, path, data, mode)

    def diff(self) -> bytes:
        """A git patch against the base commit. Raises SandboxDestroyed if none of a sane size can
        be made, SandboxGone.
        """
        scratch = f"{options.SCRATCH}/diff-{secrets.token_hex(8)}"
        argv = ["sh", "-c", _DIFF, "sh", snapshot.DIFF_SCRIPT, scratch, self._spec.workdir]
        command = self._command(
            argv,
            self._base.git,
            None,
            snapshot.GIT_ENV,
            options.GIT,
            timeout_s=_GIT_TIMEOUT_S,
            cap=snapshot.MAX_PATCH_BYTES,
        )
        return snapshot.patch_of(self._run(command), self._spec.workdir)

    def renew(self, expires: float) -> None:
        """Extend the lease to `expires`. Raises SandboxGone."""
        try:
            self._api.rename(self._container.id, lease_name(self.id, expires))
        except LOST as error:
            raise SandboxGone(f"sandbox {self.id}: lease not renewed: {error}") from error

    def close(self) -> None:
        """Remove the container. Safe to call twice; never raises."""
        if self._closed:
            return
        self._closed = True
        self._events.forget(self._container.id)
        try:
            self._remove()
        except LOST:
            log.exception("sandbox %s: container not removed; a reaper will try again", self.id)

    def _unpack(self, archive: bytes, folder: str, user: str) -> None:
        done = self.run_trusted(["sh", "-c", _UNPACK], stdin=archive, folder=folder, user=user)
        if not done.ok:
            raise SandboxUnavailable(
                f"sandbox files: {said(done)}: is disk_mib large enough for the repository?"
            )
        if int(done.stdout) != len(archive):
            raise SandboxUnavailable(
                f"sandbox files: {int(done.stdout)} of {len(archive)} bytes arrived: try again"
            )

    def run_git(self, argv: Sequence[str], stdin: bytes | None = None) -> bytes:
        """Run a trusted command while the base is made; its output. Raises SandboxUnavailable."""
        done = self.run_trusted(argv, stdin=stdin, env=snapshot.GIT_ENV)
        if not done.ok:
            raise SandboxUnavailable(
                f"base commit: {' '.join(argv[:2])}: {said(done)}: does the image hold git?"
            )
        return done.stdout

    def run_trusted(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        folder: str | None = None,
        user: str = options.AGENT,
    ) -> ExecResult:
        """Run a command of ours before any agent; it leaves nothing behind. Raises
        SandboxUnavailable.
        """
        command = self._command(
            argv, stdin, folder, env, user, timeout_s=_GIT_TIMEOUT_S, cap=1 << 30
        )
        try:
            return run_exec(self._api, self._container.id, command).result
        except LOST as error:
            raise SandboxUnavailable(f"sandbox {self.id}: {error}") from error

    def _command(
        self,
        argv: Sequence[str],
        stdin: bytes | None,
        cwd: str | None,
        env: Mapping[str, str] | None,
        user: str,
        *,
        timeout_s: float,
        cap: int,
    ) -> Command:
        """By way of sh, so that a missing program is exit code 127 as everywhere."""
        return Command(
            argv=["sh", "-c", _IN_FOLDER, "sh", cwd or self._spec.workdir, *argv],
            user=user,
            env={**COMMAND_ENV, **self._spec.env, **(env or {})},
            stdin=stdin,
            deadline=time.monotonic() + timeout_s,
            max_output_bytes=cap,
        )

    def _run(self, command: Command) -> ExecResult:
        """Run it, kill all that it left, and say how it ended. Raises SandboxGone,
        SandboxDestroyed.
        """
        if self._closed or self._lost:
            raise SandboxGone(f"sandbox {self.id}: {self._lost or 'closed'}")
        with answering_by(command.deadline):
            result = self._run_and_explain(command)
        if OUTCOME_OF_END[result.end] is Outcome.INFRA:
            self._lost = f"the end of an earlier command: {result.end}"
        return result

    def _run_and_explain(self, command: Command) -> ExecResult:
        ooms = self._events.ooms(self._container.id)
        try:
            ran = self._run_alone(command)
        except LOST as error:
            raise self._why_gone(ooms, str(error)) from error
        except SandboxGone as error:
            if self._taken_by_oom(ooms):
                raise self._why_gone(ooms, "") from error
            raise
        if not ran.started:
            raise self._why_unusable("no command can be started any more")
        if ran.result.end is not End.EXITED and self._taken_by_oom(ooms):
            raise self._why_gone(ooms, "")
        return self._with_oom(ran.result, ooms)

    def _run_alone(self, command: Command) -> Ran:
        """Run it and kill all that it left. Raises APIError, OSError if it was not run."""
        killed = False

        def kill_left() -> None:
            nonlocal killed
            self._kill_left(command.user)
            killed = True

        ran = run_exec(self._api, self._container.id, command, kill_left)
        if ran.started and ran.result.end is not End.UNKNOWN:
            try:
                if ran.result.exit_code == _SIGKILLED:
                    self._end_all(command.user)
                elif not killed:
                    kill_left()
            except (*LOST, SandboxGone):
                gone = replace(ran.result, end=End.SANDBOX_GONE, exit_code=None)
                return ran._replace(result=gone)
        return ran

    def _kill_left(self, user: str) -> None:
        """End everything the command left, if it left anything. Raises what `_end_all` raises."""
        if not self._at_rest():
            self._end_all(user)

    def _end_all(self, user: str) -> None:
        """End every process of `user`, detached or not. It needs no fork, so a full pids group does not stop it. A container
        that is being killed counts no process for a moment and takes no command: a command that was killed, or its whole
        container, is told apart here. Raises SandboxDestroyed when the agent hinders it, SandboxGone when the engine does.
        """
        code: int | None = None
        hindrance = "what a command left cannot be ended"
        for _ in range(_KILL_ATTEMPTS):
            argv = ["sh", "-c", "kill -9 -1"]
            try:
                code = exec_exit_code(self._api, self._container.id, argv, user)
            except LOST as error:
                code, hindrance = None, str(error)
            if code in _KILLED:
                return
            if code is None:
                break
        fault = self._why_unusable(hindrance)
        if code == _SIGKILLED:
            fault = SandboxDestroyed(f"sandbox {self.id}: its processes kill what should end them")
        if self._running():
            self._remove()
        raise fault

    def _at_rest(self) -> bool:
        """Whether the kernel counts no process but our own in the container: there is nothing to kill."""
        return processes.count(self._count_file) == options.OWN_PIDS

    def _with_oom(self, result: ExecResult, before: int) -> ExecResult:
        if result.end is not End.EXITED or result.exit_code == 0:
            return result
        wait_s = _OOM_EVENT_S if result.exit_code == _SIGKILLED else 0.0
        if self._events.await_oom(self._container.id, before, wait_s):
            return replace(result, end=End.OOM, exit_code=None)
        return result

    def _why_gone(self, ooms: int, message: str) -> SandboxError:
        """Of a container that takes no command: the agent's memory killed PID 1, or it was not the
        agent.
        """
        if self._taken_by_oom(ooms):
            return SandboxDestroyed(f"sandbox {self.id}: its memory ran out and took PID 1 along")
        return SandboxGone(f"sandbox {self.id}: {message}")

    def _taken_by_oom(self, before: int) -> bool:
        """Whether the container is dead for want of memory: by what the engine says now, or by what
        it has told of a container that is already removed.
        """
        with suppress(*LOST):
            state = self._api.inspect_container(self._container.id)["State"]
            return bool(state["OOMKilled"]) and not state["Running"]
        told = self._events.await_oom(self._container.id, before, 0.0)
        return told and self._events.died(self._container.id)

    def _why_unusable(self, message: str) -> SandboxError:
        """Of a living container on a living engine: the agent has removed the shell or stops whatever
        comes after it, by what the engine sees from outside; else the engine is at fault.
        """
        try:
            rows = self._api.top(self._container.id, "-eo pid,uid,stat")["Processes"]
            being_removed = rows is None
            stopped = any(uid == _AGENT_UID and stat[0] == "T" for _, uid, stat in rows or ())
            if stopped or (not being_removed and self._shell_is_gone()):
                return SandboxDestroyed(f"sandbox {self.id}: {message}")
        except LOST as error:
            message = f"{message}: {error}"
        return SandboxGone(f"sandbox {self.id}: {message}")

    def _running(self) -> bool:
        with suppress(*LOST):
            return bool(self._api.inspect_container(self._container.id)["State"]["Running"])
        return False

    def _shell_is_gone(self) -> bool:
        try:
            archive, _ = self._api.get_archive(self._container.id, "/bin/sh")
        except NotFound:
            # of the file, or of the container
            return self._running()
        return not any(archive)

    def _remove(self) -> None:
        try:
            self._container.remove(force=True, v=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code not in _GONE:
                raise
