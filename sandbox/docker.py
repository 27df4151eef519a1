"""The Docker backend, basic form: one hardened container a sandbox, over PyPI's `docker`.

Root keeps the container alive as PID 1 and the agent is uid 1000, so the agent cannot end its own
container. The root filesystem is read-only; what is writable is tmpfs of a fixed size. The image
must hold git, python3 with pytest, and our tools at /opt/tools: `python -m sandbox.images` makes
the starter's. How a command's streams are read is `sandbox.docker_exec`.
"""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from sandbox import snapshot
from sandbox.base import DEFAULT_MAX_OUTPUT_BYTES, ExecResult, ReapReport, SandboxSpec, User
from sandbox.docker_exec import run_exec
from sandbox.errors import End, SandboxDestroyed, SandboxGone, SandboxUnavailable
from sandbox.files import read_file, said, write_file
from sandbox.image_base import OUTSIDE_TESTS, base_key, files_base, image_base

log = logging.getLogger(__name__)

SOCKET = "unix:///var/run/docker.sock"
_LABEL = "deepswe.studio"
_UIDS = {"agent": "1000:1000", "root": "0:0"}
_ENV = {
    "PATH": "/opt/python/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
    "HOME": "/home/agent",
    "USER": "agent",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}
_GIT_TIMEOUT_S = 60.0
_BLANK = "/base"
"""The working tree of a container in which an image's repository is made ready."""
_OOM_EVENT_S = 0.3
"""How long after a command the engine may still be telling of an out-of-memory kill."""


class DockerBackend:
    """Makes sandboxes on the engine at `base_url`; thread-safe."""

    name = "docker"

    def __init__(self, *, base_url: str = SOCKET) -> None:
        self._base_url = base_url
        self._lock = threading.Lock()
        self._known: docker.DockerClient | None = None
        self._bases: dict[str, snapshot.Base] = {}

    def create(self, spec: SandboxSpec) -> "DockerSandbox":
        """A container with `spec.files`, or the image's own repository, as its base commit. Raises SandboxUnavailable."""
        return self._create(spec, self._base(spec))

    def hidden_files(self, spec: SandboxSpec) -> bytes:
        """See `Backend.hidden_files`. Raises SandboxUnavailable."""
        return self._base(spec).hidden

    def _base(self, spec: SandboxSpec) -> snapshot.Base:
        key = base_key(spec)
        if key not in self._bases:
            self._bases[key] = self._build_base(spec)
        return self._bases[key]

    def _build_base(self, spec: SandboxSpec) -> snapshot.Base:
        # An image's repository is seen where no tmpfs lies over it.
        seen = spec if spec.files else replace(spec, workdir=_BLANK)
        blank = self._create(seen, snapshot.Base(snapshot.pack(spec.files), b""))
        try:
            if spec.files:
                return files_base(blank)
            return image_base(blank, spec, testbed=spec.workdir, tests=OUTSIDE_TESTS)
        finally:
            blank.close()

    def _create(self, spec: SandboxSpec, base: snapshot.Base) -> "DockerSandbox":
        try:
            container = self._client().containers.run(
                spec.docker_image, ["tail", "-f", "/dev/null"], **_options(spec)
            )
        except ImageNotFound as error:
            raise SandboxUnavailable(
                f"docker_image {spec.docker_image!r}: not on this engine: "
                "pull it, or python -m sandbox.images"
            ) from error
        except DockerException as error:
            raise SandboxUnavailable(
                f"docker_image {spec.docker_image!r}: no container: {error}"
            ) from error
        sandbox = DockerSandbox(container, spec, base)
        try:
            sandbox.unpack(base.testbed)
        except BaseException:
            sandbox.close()
            raise
        return sandbox

    def _client(self) -> docker.DockerClient:
        with self._lock:
            if self._known is None:
                try:
                    self._known = docker.DockerClient(base_url=self._base_url, timeout=60)
                except DockerException as error:
                    raise SandboxUnavailable(
                        f"docker backend: no engine answers at {self._base_url}: start dockerd"
                    ) from error
            return self._known

    def reap(self, *, run: str | None = None) -> ReapReport:
        """Remove containers that are expired or whose owner on this host is dead; with `run`, all
        of that run's.
        """
        found = self._client().containers.list(
            all=True, filters={"label": _LABEL}, ignore_removed=True
        )
        removed, errors = [], []
        for container in found:
            if not _abandoned(container.labels, run):
                continue
            try:
                container.remove(force=True)
                removed.append(container.labels[_LABEL])
            except NotFound:
                continue
            except APIError as error:
                errors.append(f"sandbox {container.labels[_LABEL]}: {error.explanation}")
        return ReapReport(examined=len(found), removed=tuple(removed), errors=tuple(errors))

    def close(self) -> None:
        """Let go of the engine; containers stay until closed or reaped."""
        if self._known is not None:
            self._known.close()


def _options(spec: SandboxSpec) -> dict[str, Any]:
    memory = (spec.memory_mib + spec.disk_mib) << 20
    disk = f"size={spec.disk_mib}m,uid=1000,gid=1000,exec,nosuid,nodev"
    labels = spec.labels
    return {
        "detach": True,
        "init": True,
        "user": "0:0",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "network_mode": "none",
        "hostname": "sandbox",
        "read_only": True,
        "tmpfs": {
            spec.workdir: f"{disk},mode=0755",
            "/tmp": f"{disk},mode=1777",
            "/home/agent": f"{disk},mode=0755",
            **_hidden_tests(spec),
        },
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": spec.pids,
        "nano_cpus": int(spec.cpus * 1e9),
        "log_config": docker.types.LogConfig(type="none"),
        "labels": {
            _LABEL: secrets.token_hex(8),
            f"{_LABEL}.run": labels.run,
            f"{_LABEL}.rollout": labels.rollout,
            f"{_LABEL}.attempt": str(labels.attempt),
            f"{_LABEL}.owner": labels.owner,
            f"{_LABEL}.expires": str(labels.expires),
        },
    }


def _hidden_tests(spec: SandboxSpec) -> dict[str, str]:
    """An empty folder over an image's hidden tests, but for where its repository is made ready."""
    wanted = not spec.files and spec.workdir != _BLANK
    return {OUTSIDE_TESTS: "size=4k,mode=0700,ro"} if wanted else {}


def _abandoned(labels: Mapping[str, str], run: str | None) -> bool:
    if run is not None:
        return labels.get(f"{_LABEL}.run") == run
    if float(labels.get(f"{_LABEL}.expires", "0")) < time.time():
        return True
    host, _, pid = labels.get(f"{_LABEL}.owner", "").rpartition(":")
    return host == socket.gethostname() and pid.isdigit() and not os.path.exists(f"/proc/{pid}")  # noqa: PTH110


class DockerSandbox:
    """One container. Not thread-safe."""

    def __init__(self, container: Any, spec: SandboxSpec, base: snapshot.Base) -> None:
        self.id: str = container.labels[_LABEL]
        self._container, self._spec, self._base = container, spec, base
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
        """See `Sandbox.exec`. Raises SandboxGone."""
        if self._closed:
            raise SandboxGone(f"sandbox {self.id}: closed")
        began = time.time()
        api = self._container.client.api
        # By way of sh, so that a missing program is exit code 127 as everywhere.
        argv = [
            "sh",
            "-c",
            'cd -- "$1" && shift && exec "$@"',
            "sh",
            cwd or self._spec.workdir,
            *argv,
        ]
        try:
            result = run_exec(
                api,
                self._container.id,
                argv,
                user=_UIDS[user],
                env={**_ENV, **self._spec.env, **(env or {})},
                stdin=stdin,
                timeout_s=timeout_s,
                max_output_bytes=max_output_bytes,
            )
            self._kill_agent(api)
        except (APIError, OSError) as error:
            raise SandboxGone(f"sandbox {self.id}: {error}") from error
        return self._with_oom(api, result, began)

    def _kill_agent(self, api: Any) -> None:
        """End everything the agent left, detached or not; needs no fork, so a full pids group does
        not stop it.
        """
        created = api.exec_create(
            self._container.id, ["sh", "-c", "kill -9 -1"], user=_UIDS["agent"]
        )
        api.exec_start(created["Id"])

    def _with_oom(self, api: Any, result: ExecResult, began: float) -> ExecResult:
        if result.end is not End.EXITED or result.exit_code == 0:
            return result
        window = {"since": f"{began:.6f}", "until": f"{time.time() + _OOM_EVENT_S:.6f}"}
        filters = {"event": "oom", "container": self._container.id}
        events = api.events(**window, filters=filters, decode=True)
        if result.exit_code == 137 and any(True for _ in events):
            return ExecResult(**{**vars(result), "end": End.OOM, "exit_code": None})
        return result

    def read(self, path: str, limit_bytes: int) -> bytes:
        """The regular file at absolute `path`. Raises SandboxPathError."""
        return read_file(self, path, limit_bytes)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Create or replace the file at absolute `path`. Raises SandboxPathError."""
        write_file(self, path, data, mode)

    def diff(self) -> bytes:
        """A git patch against the base commit. Raises SandboxDestroyed if none of a sane size can
        be made.
        """
        scratch = f"/tmp/diff-{secrets.token_hex(8)}"
        result = self.exec(
            ["sh", "-c", snapshot.DIFF_SCRIPT, "sh", scratch, self._spec.workdir],
            stdin=self._base.git,
            env=snapshot.GIT_ENV,
            timeout_s=_GIT_TIMEOUT_S,
            max_output_bytes=snapshot.MAX_PATCH_BYTES,
        )
        self.exec(["rm", "-rf", scratch], timeout_s=_GIT_TIMEOUT_S)
        if result.end is End.OUTPUT_LIMIT:
            raise SandboxDestroyed(
                f"patch larger than {snapshot.MAX_PATCH_BYTES >> 20} MiB: no fix is that large"
            )
        if not result.ok:
            raise SandboxDestroyed(f"no patch of {self._spec.workdir}: {said(result)}")
        return result.stdout

    def unpack(self, archive: bytes) -> None:
        """Lay a tar archive into the working tree, before any agent. Raises SandboxUnavailable."""
        result = self.exec(
            ["tar", "-xf", "-", "--no-same-owner"], stdin=archive, timeout_s=_GIT_TIMEOUT_S
        )
        if not result.ok:
            raise SandboxUnavailable(
                f"sandbox files: {said(result)}: is disk_mib large enough for the repository?"
            )

    def run_git(self, argv: Sequence[str], stdin: bytes | None = None) -> bytes:
        """Run a trusted command while the base is made. Raises SandboxUnavailable."""
        result = self.exec(
            argv,
            stdin=stdin,
            env=snapshot.GIT_ENV,
            timeout_s=_GIT_TIMEOUT_S,
            max_output_bytes=1 << 30,
        )
        if not result.ok:
            raise SandboxUnavailable(
                f"base commit: {' '.join(argv[:2])}: {said(result)}: does the image hold git?"
            )
        return result.stdout

    def close(self) -> None:
        """Remove the container. Safe to call twice; never raises."""
        if self._closed:
            return
        self._closed = True
        try:
            with suppress(NotFound):
                self._container.remove(force=True)
        except (DockerException, OSError):
            log.exception("sandbox %s: container not removed; a reaper will try again", self.id)
