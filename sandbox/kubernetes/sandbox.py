"""One pod as a sandbox: its folders, its commands, its files, its patch and its lease."""

import secrets
from collections.abc import Mapping, Sequence

from sandbox import snapshot
from sandbox.base import (
    COMMAND_ENV,
    DEFAULT_MAX_OUTPUT_BYTES,
    ExecResult,
    SandboxSpec,
    User,
)
from sandbox.errors import SandboxGone, SandboxUnavailable
from sandbox.files import read_file, said, write_file
from sandbox.kubernetes.command import PodCommands
from sandbox.kubernetes.pod import SCRATCH
from sandbox.kubernetes.supervisor import GIT_GROUP, PodUser
from sandbox.labels import LABEL
from sandbox.tool_folder import OWNER, TOOL_FOLDER, tools_archive

_TRUSTED_TIMEOUT_S = 60.0
_MAX_TREE_BYTES = 1 << 30
_PREPARE = f"""
set -e
chmod 755 "$1" /home/agent
chmod 1777 /tmp /dev/shm
chmod 700 /run/studio
chown 1000:1000 "$1" /home/agent
chmod 770 {SCRATCH}
chown 0:{GIT_GROUP} {SCRATCH}
head -c "$2" | tar -xf - -C {TOOL_FOLDER} --no-same-owner
chmod 755 {TOOL_FOLDER}
chown -R {OWNER} {TOOL_FOLDER}
cd "$1"
exec setpriv --reuid=1000 --regid=1000 --clear-groups --no-new-privs tar -xf - --no-same-owner
"""
_DIFF = 'sh -c "$1" sh "$2" "$3"; code=$?; rm -rf -- "$2"; exit $code'


class KubernetesSandbox:
    """One pod. Not thread-safe."""

    def __init__(
        self, name: str, spec: SandboxSpec, base: snapshot.Base, commands: PodCommands
    ) -> None:
        self.id = name
        self._spec, self._base, self._commands = spec, base, commands
        self._closed = False

    def prepare(self) -> None:
        """Lay out the writable folders, our tools and the working tree, before any agent. Raises SandboxUnavailable."""
        tools = tools_archive()
        argv = ["sh", "-c", _PREPARE, "sh", self._spec.workdir, str(len(tools))]
        stdin = tools + self._base.testbed
        result = self._run_trusted(argv, stdin, cwd="/", user="root")
        if not result.ok:
            raise SandboxUnavailable(
                f"sandbox files: {said(result)}: does the image hold setpriv and tar, "
                "and is disk_mib large enough for the repository?"
            )

    def run_git(self, argv: Sequence[str], stdin: bytes | None = None) -> bytes:
        """Run a trusted command while the base is made; its output. Raises SandboxUnavailable."""
        result = self._run_trusted(argv, stdin, cwd=self._spec.workdir, user="agent")
        if not result.ok:
            raise SandboxUnavailable(
                f"base commit: {' '.join(argv[:2])}: {said(result)}: does the image hold git?"
            )
        return result.stdout

    def _run_trusted(
        self, argv: Sequence[str], stdin: bytes | None, *, cwd: str, user: User
    ) -> ExecResult:
        """Run a command of ours before any agent; as root with root's capabilities. Raises SandboxUnavailable."""
        try:
            return self._commands.run(
                argv,
                stdin=stdin,
                cwd=cwd,
                env={**COMMAND_ENV, **snapshot.GIT_ENV},
                user=user,
                timeout_s=_TRUSTED_TIMEOUT_S,
                max_output_bytes=_MAX_TREE_BYTES,
                capabilities=user == "root",
            )
        except SandboxGone as error:
            raise SandboxUnavailable(str(error)) from error

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
        return self._run(
            argv, stdin, cwd, env, user, timeout_s=timeout_s, max_output_bytes=max_output_bytes
        )

    def _run(
        self,
        argv: Sequence[str],
        stdin: bytes | None,
        cwd: str | None,
        env: Mapping[str, str] | None,
        user: PodUser,
        *,
        timeout_s: float,
        max_output_bytes: int,
    ) -> ExecResult:
        if self._closed:
            raise SandboxGone(f"sandbox {self.id}: closed")
        return self._commands.run(
            argv,
            stdin=stdin,
            cwd=cwd or self._spec.workdir,
            env={**COMMAND_ENV, **self._spec.env, **(env or {})},
            user=user,
            timeout_s=timeout_s,
            max_output_bytes=max_output_bytes,
        )

    def read(self, path: str, limit_bytes: int) -> bytes:
        """The regular file at absolute `path`. Raises SandboxPathError."""
        return read_file(self, path, limit_bytes)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Create or replace the file at absolute `path`. Raises SandboxPathError."""
        write_file(self, path, data, mode)

    def diff(self) -> bytes:
        """A git patch against the base commit. Raises SandboxDestroyed if none of a sane size can be made, SandboxGone."""
        scratch = f"{SCRATCH}/diff-{secrets.token_hex(8)}"
        argv = ["sh", "-c", _DIFF, "sh", snapshot.DIFF_SCRIPT, scratch, self._spec.workdir]
        result = self._run(
            argv,
            self._base.git,
            None,
            snapshot.GIT_ENV,
            "git",
            timeout_s=_TRUSTED_TIMEOUT_S,
            max_output_bytes=snapshot.MAX_PATCH_BYTES,
        )
        return snapshot.patch_of(result, self._spec.workdir)

    def renew(self, expires: float) -> None:
        """Extend the lease to `expires`. Raises SandboxGone."""
        self._commands.renew({f"{LABEL}.expires": f"{expires:.0f}"})

    def close(self) -> None:
        """Have the pod removed. Safe to call twice; never raises."""
        if self._closed:
            return
        self._closed = True
        self._commands.close()
