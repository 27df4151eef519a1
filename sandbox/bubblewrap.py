"""The bubblewrap backend: sandboxes on one machine with no engine, from namespaces, a sized tmpfs,
seccomp and control groups.

Each command is one bwrap in its own pid namespace over the sandbox's disk, so every command ends
with all its processes dead. Weaker than a container engine with a hypervisor below it: the host's
kernel is shared, and `BubblewrapBackend.weaker` says what this machine could not give beyond that.
What `/` looks like is `rootfs`, what persists `namespaces`, how a command is watched `processes`.
"""

import logging
import os
import secrets
import shlex
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox import cgroups, namespaces, records, rootfs, snapshot, unpack
from sandbox.base import (
    COMMAND_ENV,
    DEFAULT_MAX_OUTPUT_BYTES,
    ExecResult,
    ReapReport,
    Recorded,
    SandboxSpec,
    User,
)
from sandbox.bases import Bases
from sandbox.errors import End, SandboxGone, SandboxUnavailable
from sandbox.files import read_file, said, write_file
from sandbox.image_base import OUTSIDE_TESTS, files_base, image_base
from sandbox.processes import Finished, run_confined
from sandbox.reap import reap_records
from sandbox.seccomp import seccomp_filter

log = logging.getLogger(__name__)

_OWN_PIDS = 4
"""Processes of bwrap itself that count against the group."""
_GIT_TIMEOUT_S = 60.0
_IMAGE_TESTBED = "/image-testbed"
_IMAGE_TESTS = "/image-tests"


class BubblewrapBackend:
    """Makes sandboxes by bwrap; thread-safe. A `docker_image` is the composed root, or what is unpacked below `unpacked`
    (see `sandbox.unpack`), or a folder that `images` names.
    """

    name = "bubblewrap"

    def __init__(
        self,
        *,
        python_cache: Path | str = rootfs.PYTHON_CACHE,
        state: Path | str = records.STATE,
        images: Mapping[str, Path] | None = None,
        unpacked: Path | str = unpack.IMAGES,
    ) -> None:
        self.cores = os.cpu_count() or 1
        self._python_cache, self._state = Path(python_cache), Path(state)
        self._images, self._unpacked = dict(images or {}), Path(unpacked)
        self._lock = threading.Lock()
        self._stages: dict[Path | None, namespaces.Stage] = {}
        self._bases = Bases(self._build_base)
        self._open: dict[str, BubblewrapSandbox] = {}
        self._hierarchy = cgroups.find_hierarchy()
        self._seccomp = seccomp_filter()
        self.weaker = self._weaknesses()
        """What this machine does not give, one sentence each; empty when the design holds in full.
        """

    def _weaknesses(self) -> tuple[str, ...]:
        found = []
        if self._hierarchy is None:
            found.append("no control groups: memory is limited per process, not per sandbox")
        if not self._seccomp:
            found.append(f"no seccomp filter for {os.uname().machine}")
        return tuple(found)

    def create(self, spec: SandboxSpec) -> "BubblewrapSandbox":
        """A sandbox with `spec.files`, or the image's own repository, as its base commit. Raises SandboxUnavailable."""
        stage, image = self._staged(self._found(spec.docker_image))
        return self._create(stage, spec, image, self._bases.of(spec))

    def hidden_files(self, spec: SandboxSpec) -> bytes:
        """See `Backend.hidden_files`. Raises SandboxUnavailable."""
        return self._bases.of(spec).hidden

    def _create(
        self,
        stage: namespaces.Stage,
        spec: SandboxSpec,
        image: rootfs.Image | None,
        base: snapshot.Base,
    ) -> "BubblewrapSandbox":
        sandbox_id = secrets.token_hex(8)
        # Written down before anything is made: a kill at any moment leaves nothing unknown.
        record = records.HeldRecord(self._state, self._record(sandbox_id, spec))
        group = None
        try:
            group = self._group(sandbox_id, spec)
            disk = namespaces.make_disk(
                stage, sandbox_id, disk_mib=spec.disk_mib, testbed=base.testbed
            )
        except BaseException:
            if group is not None:
                group.remove()
            record.remove()
            raise
        sandbox = BubblewrapSandbox(
            self, sandbox_id, spec, stage, image, base, disk, group, record, self._seccomp
        )
        with self._lock:
            self._open[sandbox_id] = sandbox
        return sandbox

    def _record(self, sandbox_id: str, spec: SandboxSpec) -> records.Record:
        planned = self._hierarchy.group(sandbox_id) if self._hierarchy else None
        folders = {c: str(f) for c, f in planned.folders.items()} if planned else {}
        return records.Record(
            id=sandbox_id,
            labels=spec.labels,
            group_version=planned.version if planned else 0,
            group_folders=folders,
        )

    def _group(self, sandbox_id: str, spec: SandboxSpec) -> cgroups.Group | None:
        if self._hierarchy is None:
            return None
        # The disk is memory, charged to who writes it: a full one must leave room to run.
        memory_mib = spec.memory_mib + spec.disk_mib
        try:
            return self._hierarchy.create(
                sandbox_id, memory_mib=memory_mib, pids=spec.pids + _OWN_PIDS, cpus=spec.cpus
            )
        except OSError as error:
            raise SandboxUnavailable(f"control group of sandbox {sandbox_id}: {error}") from error

    def _found(self, name: str) -> Path | None:
        """The folder of the image called `name`; None for the composed root."""
        if name == rootfs.COMPOSED_IMAGE:
            return None
        folder = self._images.get(name) or unpack.find(name, self._unpacked)
        if folder is None:
            known = ", ".join([rootfs.COMPOSED_IMAGE, *self._images])
            raise SandboxUnavailable(
                f"docker_image {name!r}: no unpacked copy for bubblewrap below {self._unpacked} "
                f"(without one there are: {known}): python -m sandbox.unpack {name}, or use docker"
            )
        return folder

    def _staged(self, found: Path | None) -> tuple[namespaces.Stage, rootfs.Image | None]:
        """The stage for an image, made when it is first asked for, and the image in it."""
        host = found if found and unpack.is_whole(found) else None
        with self._lock:
            if host not in self._stages:
                self._stages[host] = namespaces.make_stage(
                    rootfs.python_prefix(self._python_cache), {"": host} if host else {}
                )
            stage = self._stages[host]
        return stage, rootfs.Image(host, f"{stage.folder}/images/0") if host else None

    def _build_base(self, spec: SandboxSpec) -> snapshot.Base:
        found = self._found(spec.docker_image)
        stage, image = self._staged(found)
        partial = found is not None and image is None and not spec.files
        first = unpack.pack_repository(found) if partial and found else snapshot.pack(spec.files)
        blank = self._create(stage, spec, image, snapshot.Base(first, b""))
        try:
            if spec.files or found is None:
                return files_base(blank)
            testbed = "." if partial else _IMAGE_TESTBED
            return image_base(blank, spec, testbed=testbed, tests=_IMAGE_TESTS)
        finally:
            blank.close()

    def forget(self, sandbox_id: str) -> None:
        """The sandbox has closed."""
        with self._lock:
            self._open.pop(sandbox_id, None)

    def reap(self, *, run: str | None = None) -> ReapReport:
        """Remove sandboxes that are expired or whose holder is dead; with `run`, all of that run's.

        One that a living process of another backend holds loses its record and its processes; its
        memory goes when that process closes it.
        """
        return reap_records(self._state, run=run, held=dict(self._open))

    def recorded(self) -> tuple[Recorded, ...]:
        """See `Backend.recorded`."""
        return tuple(records.recorded(self._state))

    def close(self) -> None:
        """Close every sandbox and the shared stage."""
        for sandbox in list(self._open.values()):
            sandbox.close()
        with self._lock:
            for stage in self._stages.values():
                stage.close()
            self._stages.clear()


class BubblewrapSandbox:
    """One rollout's files, limits and network-less world. Not thread-safe."""

    def __init__(
        self,
        backend: BubblewrapBackend,
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
        self._backend, self._spec, self._stage, self._base = backend, spec, stage, base
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
        if self._image is not None:
            staged = self._image.staged
            view += ["--ro-bind-try", f"{staged}{self._spec.workdir}", _IMAGE_TESTBED]
            view += ["--ro-bind-try", f"{staged}{OUTSIDE_TESTS}", _IMAGE_TESTS]
        result = self._run(
            view,
            argv,
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
            raise SandboxGone(f"sandbox {self.id}: closed, or taken by a reaper")
        self._record.renew(expires)

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
        self._backend.forget(self.id)

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
            raise SandboxGone(f"sandbox {self.id}: closed, or taken by a reaper")
        oom_kills = self._group.oom_kills() if self._group else 0

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
            tail = ["--remount-ro", "/", "--chdir", self._spec.workdir, "--", *argv]
            return ["sh", "-c", self._launcher(), "sh", *self._disk.enter([*bwrap, *tail])]

        finished = run_confined(
            command,
            seccomp=self._seccomp,
            pass_fds=self._disk.fds,
            stdin=stdin,
            timeout_s=timeout_s,
            max_output_bytes=max_output_bytes,
        )
        if self._group is not None:
            self._group.kill()
            oom_kills = self._group.oom_kills() - oom_kills
        return self._result(finished, oom_kills)

    def _launcher(self) -> str:
        """Enter the group, be the first that the kernel kills for want of memory, become bwrap."""
        enter = (
            "".join(f"echo 0 > {shlex.quote(str(file))} && " for file in self._group.procs_files)
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


_IN_FOLDER = 'cd -- "$1" && shift && exec "$@"'
_ISOLATION = [
    *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"),
    *("--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv"),
]


def _identity(user: User) -> list[str]:
    uid = "0" if user == "root" else "1000"
    return ["--uid", uid, "--gid", uid, "--proc", "/proc", "--dev", "/dev"]


def _settings(env: Mapping[str, str]) -> list[str]:
    return [arg for name, value in env.items() for arg in ("--setenv", name, value)]
