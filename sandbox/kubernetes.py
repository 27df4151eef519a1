"""The Kubernetes backend: one hardened bare pod a sandbox, over PyPI's `kubernetes`.

Root keeps the pod alive and runs each command as uid 1000 (`sandbox.kubernetes_supervisor`), so the agent cannot end
its own pod. The root filesystem is read-only; what is writable is one memory-backed volume of fixed size. What the
image must hold is as for Docker, and `setpriv` of util-linux. Pods have no API token; that they have no network is
the cluster's doing, and is tried out before the first sandbox (`sandbox.kubernetes_probe`).
"""

import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from sandbox import kubernetes_pod, snapshot
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
from sandbox.errors import SandboxGone, SandboxUnavailable
from sandbox.files import read_file, said, write_file
from sandbox.image_base import container_base
from sandbox.kubernetes_api import Api, ApiError
from sandbox.kubernetes_command import PodCommands
from sandbox.kubernetes_options import KubernetesOptions
from sandbox.kubernetes_pod import PREFIX, SCRATCH
from sandbox.kubernetes_probe import probe
from sandbox.kubernetes_reap import delete, reap_pods, recorded_pods
from sandbox.kubernetes_start import start_pod
from sandbox.kubernetes_supervisor import GIT_GROUP, PodUser
from sandbox.kubernetes_watch import PodWatch
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
_DIFF = 'mkdir -p "$2" && sh -c "$1" sh "$2" "$3"; code=$?; rm -rf -- "$2"; exit $code'


class KubernetesBackend:
    """Makes sandboxes on one cluster; thread-safe. Options: `KubernetesOptions`."""

    name = "kubernetes"

    def __init__(self, **options: Any) -> None:
        self.options = KubernetesOptions(**options)
        self.cores = self.options.cores
        self._id = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._known: tuple[Api, PodWatch] | None = None
        self._probed = False
        self._owners: dict[str, str] = {}
        self._bases = Bases(partial(container_base, create=self._create))

    def create(self, spec: SandboxSpec) -> "KubernetesSandbox":
        """A pod with `spec.files`, or the image's own repository, as its base commit. Raises SandboxUnavailable."""
        with self._answering(spec):
            self._probe_once(spec)
            return self._create(spec, self._bases.of(spec))

    def hidden_files(self, spec: SandboxSpec) -> bytes:
        """See `Backend.hidden_files`. Raises SandboxUnavailable."""
        with self._answering(spec):
            return self._bases.of(spec).hidden

    @contextmanager
    def _answering(self, spec: SandboxSpec) -> Iterator[None]:
        """What the API server refuses is a sandbox that cannot be had."""
        try:
            yield
        except ApiError as error:
            raise SandboxUnavailable(
                f"docker_image {spec.docker_image!r}: no pod in namespace "
                f"{self.options.namespace!r}: {error}"
            ) from error

    def _create(self, spec: SandboxSpec, base: snapshot.Base) -> "KubernetesSandbox":
        api, watch = self._cluster()
        name = f"sandbox-{secrets.token_hex(8)}"
        body = kubernetes_pod.pod(
            name, spec, self.options, backend=self._id, owner_uid=self._owner(spec)
        )
        sandbox = KubernetesSandbox(name, spec, base, PodCommands(api, watch, name, self.options))
        try:
            start_pod(api, watch, body, self.options)
            sandbox.prepare()
        except BaseException:
            sandbox.close()
            raise
        return sandbox

    def _cluster(self) -> tuple[Api, PodWatch]:
        with self._lock:
            if self._known is None:
                api = Api(self.options)
                self._known = (api, PodWatch(api, f"{PREFIX}/backend={self._id}"))
            return self._known

    def _owner(self, spec: SandboxSpec) -> str:
        """The uid of the object that owns this run's pods, made when the run's first pod is."""
        api, _ = self._cluster()
        with self._lock:
            if spec.labels.run not in self._owners:
                body = kubernetes_pod.run_object(spec.labels, self._id)
                made = api.call("POST", api.path("configmaps"), body=body)
                self._owners[spec.labels.run] = made["metadata"]["uid"]
            return self._owners[spec.labels.run]

    def _probe_once(self, spec: SandboxSpec) -> None:
        """Raises SandboxUnavailable when pods of this cluster reach what they must not."""
        self._owner(spec)
        api, watch = self._cluster()
        with self._lock:
            if self._probed:
                return
            owner_uid = self._owners[spec.labels.run]
            probe(api, watch, spec, self.options, backend=self._id, owner_uid=owner_uid)
            self._probed = True

    def reap(self, *, run: str | None = None) -> ReapReport:
        """Remove pods whose lease has run out or whose holder is dead; with `run`, all of that run's.

        Raises SandboxUnavailable when the API server does not answer.
        """
        try:
            api, _ = self._cluster()
            return reap_pods(api, run)
        except ApiError as error:
            raise SandboxUnavailable(f"kubernetes backend: {error}") from error

    def recorded(self) -> tuple[Recorded, ...]:
        """See `Backend.recorded`. Raises SandboxUnavailable."""
        try:
            return recorded_pods(self._cluster()[0])
        except ApiError as error:
            raise SandboxUnavailable(f"kubernetes backend: {error}") from error

    def close(self) -> None:
        """Stop watching and remove what owns the pods made here, and with it those that are left."""
        with self._lock:
            known, self._known = self._known, None
            owners, self._owners = dict(self._owners), {}
        if known is None:
            return
        api, watch = known
        watch.close()
        for run in owners:
            delete(api, "configmaps", kubernetes_pod.run_name(run, self._id))


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
