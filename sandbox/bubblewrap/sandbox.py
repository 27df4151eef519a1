"""One rollout's sandbox under bubblewrap: each command is one bwrap in a pid namespace of its own over the sandbox's disk, so
that every command ends with all its processes dead.
"""

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence

from sandbox import rootfs, snapshot
from sandbox.base import (
    COMMAND_ENV,
    DEFAULT_MAX_OUTPUT_BYTES,
    ExecResult,
    SandboxSpec,
    User,
)
from sandbox.bubblewrap import cgroups, namespaces, records
from sandbox.bubblewrap.processes import Finished, run_confined
from sandbox.errors import End, SandboxGone, SandboxUnavailable
from sandbox.files import read_file, said, write_file
from sandbox.image_base import OUTSIDE_TESTS

log = logging.getLogger(__name__)

_GIT_TIMEOUT_S = 60.0
IMAGE_TESTBED = "/image-testbed"
IMAGE_TESTS = "/image-tests"
_IN_FOLDER = 'cd -- "$1" && shift && exec "$@"'
_ISOLATION = [
    *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"),
    *("--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv"),
]


class BubblewrapSandbox:
    """One rollout's files, limits and network-less world. Not thread-safe."""

    def __init__(
        self,
        forget: Callable[[str], None],
        sandbox_id: str,
        spec: SandboxSpec,
        stage: namespaces.Stage,
        image: rootfs.Image | None,
        base: snapshot.Base,
        disk: namespaces.Disk,
        group: cgroups.Group | None,
        record: records.HeldRecord,
        seccomp: bytes,
    ) -> None:
        self.id = sandbox_id
        self._forget, self._spec, self._stage, self._base = forget, spec, stage, base
        self._disk, self._group, self._record, self._seccomp = disk, group, record, seccomp
        self._image = image
        self._root = rootfs.composed_root(stage.folder, self._image)
        self._closed = False

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
        """See `Sandbox.exec`. `user="root"` is uid 0 inside with no capability: here both users own
        the same files.
        """
        # By way of sh, so that a missing program is exit code 127 and not a failed bwrap.
        argv = ["sh", "-c", _IN_FOLDER, "sh", cwd or self._spec.workdir, *argv]
        if self._group is None:
            argv = [*self._rlimits(), *argv]
        return self._run(
            [*self._disk_binds(), *_identity(user)],
            argv,
            env or {},
            stdin=stdin,
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
        """A git patch of the working tree against the base commit. Raises SandboxDestroyed if none
        of a sane size can be made, SandboxGone.
        """
        view = [
            *("--ro-bind", f"{self._stage.folder}/disk/testbed", self._spec.workdir),
            *("--size", str(self._spec.disk_mib << 20), "--tmpfs", "/tmp"),  # noqa: S108
            *_identity("agent"),
        ]
        argv = ["sh", "-c", snapshot.DIFF_SCRIPT, "sh", "/tmp/diff", self._spec.workdir]  # noqa: S108
        result = self._run(
            view,
            argv,
            snapshot.GIT_ENV,
            stdin=self._base.git,
            timeout_s=_GIT_TIMEOUT_S,
            max_output_bytes=snapshot.MAX_PATCH_BYTES,
        )
        return snapshot.patch_of(result, self._spec.workdir)

    def run_git(self, argv: Sequence[str], stdin: bytes | None = None) -> bytes:
        """Run a trusted command while the base is made, before any agent; its output. Raises
        SandboxUnavailable.
        """
        view = [*self._disk_binds(), *_identity("agent")]
        inside = ["sh", "-c", _IN_FOLDER, "sh", self._spec.workdir, *argv]
        if self._image is not None:
            staged = self._image.staged
            view += ["--ro-bind-try", f"{staged}{self._spec.workdir}", IMAGE_TESTBED]
            view += ["--ro-bind-try", f"{staged}{OUTSIDE_TESTS}", IMAGE_TESTS]
        result = self._run(
            view,
            inside,
            snapshot.GIT_ENV,
            stdin=stdin,
            timeout_s=_GIT_TIMEOUT_S,
            max_output_bytes=1 << 30,
        )
        if not result.ok:
            raise SandboxUnavailable(
                f"base commit: {' '.join(argv[:2])}: {said(result)}: is git installed?"
            )
        return result.stdout

    def renew(self, expires: float) -> None:
        """Extend the lease to `expires`. Raises SandboxGone."""
        if self._closed or self._record.revoked():
            raise self._gone()
        try:
            self._record.renew(expires)
        except OSError as error:
            raise SandboxGone(f"sandbox {self.id}: lease not renewed: {error}") from error

    def close(self) -> None:
        """Remove every trace. Safe to call twice; never raises."""
        if self._closed:
            return
        self._closed = True
        self._disk.close()
        try:
            if self._group is not None:
                self._group.remove()
            self._record.remove()
        except OSError:
            log.exception("sandbox %s: control group not removed; a reaper will try again", self.id)
        self._forget(self.id)

    def _disk_binds(self) -> list[str]:
        disk = f"{self._stage.folder}/disk"
        return [
            *("--bind", f"{disk}/testbed", self._spec.workdir),
            *("--bind", f"{disk}/tmp", "/tmp"),  # noqa: S108
            *("--bind", f"{disk}/home", "/home/agent"),
        ]

    def _rlimits(self) -> list[str]:
        """Without control groups: limits set inside, where the user namespace has its own count of
        processes.
        """
        return [
            "prlimit",
            f"--nproc={self._spec.pids}",
            f"--as={self._spec.memory_mib << 20}",
            "--",
        ]

    def _run(
        self,
        view: Sequence[str],
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        stdin: bytes | None,
        timeout_s: float,
        max_output_bytes: int,
    ) -> ExecResult:
        if self._closed or self._record.revoked():
            raise self._gone()
        oom_kills = self._oom_kills()

        def command(status_fd: int, seccomp_fd: int) -> list[str]:
            options = [
                "--json-status-fd",
                str(status_fd),
                *(("--seccomp", str(seccomp_fd)) if self._seccomp else ()),
            ]
            bwrap = [
                self._stage.bwrap,
                *_ISOLATION,
                *options,
                *self._root,
                *view,
                *_settings({**COMMAND_ENV, **self._spec.env, **env}),
            ]
            # Into the working tree goes the command itself: the agent can shut it to bwrap too.
            tail = ["--remount-ro", "/", "--chdir", "/", "--", *argv]
            return ["sh", "-c", self._launcher(), "sh", *self._disk.enter([*bwrap, *tail])]

        try:
            finished = run_confined(
                command,
                seccomp=self._seccomp,
                pass_fds=self._disk.fds,
                stdin=stdin,
                timeout_s=timeout_s,
                max_output_bytes=max_output_bytes,
            )
        except OSError as error:
            raise SandboxGone(f"sandbox {self.id}: command not run: {error}") from error
        finally:
            if self._group is not None:
                self._group.kill()
        return self._result(finished, self._oom_kills() - oom_kills)

    def _oom_kills(self) -> int:
        """As the group counts them. Raises SandboxGone if there is no group any more."""
        try:
            return self._group.oom_kills() if self._group else 0
        except OSError as error:
            raise self._gone() from error

    def _gone(self) -> SandboxGone:
        return SandboxGone(f"sandbox {self.id}: closed, or taken by a reaper")

    def _launcher(self) -> str:
        """Enter the group, be the first that the kernel kills for want of memory, become bwrap; nothing without the group."""
        enter = (
            "".join(
                f"echo 0 > {shlex.quote(str(file))} || exit 1; " for file in self._group.procs_files
            )
            if self._group
            else ""
        )
        return f'{enter}{{ echo 900 > /proc/self/oom_score_adj; }} 2>/dev/null; exec "$@"'

    def _result(self, finished: Finished, oom_kills: int) -> ExecResult:
        end, exit_code = finished.end, finished.exit_code
        if end is None:
            if oom_kills > 0 and exit_code != 0:
                end = End.OOM
            elif exit_code is not None:
                end = End.EXITED
            elif not finished.started or not finished.dead:
                message = finished.stderr.decode(errors="replace").strip()[-300:]
                raise SandboxGone(f"sandbox {self.id}: command not run: {message}")
            else:
                end = End.SANDBOX_GONE
        return ExecResult(
            stdout=bytes(finished.stdout),
            stderr=bytes(finished.stderr),
            end=end,
            exit_code=exit_code if end is End.EXITED else None,
            duration_s=finished.duration_s,
            stdout_truncated="stdout" in finished.overflowed,
            stderr_truncated="stderr" in finished.overflowed,
        )


def _identity(user: User) -> list[str]:
    uid = "0" if user == "root" else "1000"
    return ["--uid", uid, "--gid", uid, "--proc", "/proc", "--dev", "/dev"]


def _settings(env: Mapping[str, str]) -> list[str]:
    return [arg for name, value in env.items() for arg in ("--setenv", name, value)]
