"""The contract every sandbox backend keeps: `Backend` makes a `Sandbox`, a `Sandbox` runs commands.

Text and exit codes only: nothing here knows of tokens, models or rewards. Backends are chosen by name through
`BACKENDS`, a dict from name to dotted path, so that importing this module imports no engine's client.
"""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, Protocol, Self

from sandbox.errors import End

User = Literal["agent", "root"]

DEFAULT_MAX_OUTPUT_BYTES = 1 << 20
"""Bytes kept of each of stdout and stderr: a test log of a large repository fits, a flood does not."""

COMMAND_ENV = {
    "PATH": "/opt/python/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
    "HOME": "/home/agent",
    "USER": "agent",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}
"""Of every command on every backend; `SandboxSpec.env` and the call's own go over it."""


@dataclass(frozen=True, kw_only=True)
class ExecResult:
    """One finished command. `exit_code` is set if and only if `end` is EXITED."""

    stdout: bytes
    stderr: bytes
    end: End
    exit_code: int | None
    duration_s: float
    stdout_truncated: bool = False
    stderr_truncated: bool = False

    @property
    def ok(self) -> bool:
        return self.end is End.EXITED and self.exit_code == 0


@dataclass(frozen=True, kw_only=True)
class SandboxLabels:
    """Who a sandbox belongs to; a reaper compares them with live leases."""

    run: str
    rollout: str
    attempt: int = 1
    owner: str
    """`host:pid` of the process that holds it."""
    expires: float
    """Unix seconds after which anybody may remove it."""

    @classmethod
    def held_here(cls, *, run: str, rollout: str, for_s: float) -> Self:
        """Of a sandbox that this process holds, for so many seconds from now."""
        owner = f"{socket.gethostname()}:{os.getpid()}"
        return cls(run=run, rollout=rollout, owner=owner, expires=time.time() + for_s)


@dataclass(frozen=True, kw_only=True)
class SandboxSpec:
    """What to create. `docker_image` is a name that every backend resolves in its own way."""

    docker_image: str
    labels: SandboxLabels
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Files laid under `workdir` before the agent starts, by relative path; they become the base commit. When there are
    none, the image's own `workdir` does.
    """
    hidden: tuple[str, ...] = ()
    """Paths of the image's own `workdir` that no sandbox holds: `Backend.hidden_files` has them."""
    setup_patch: bytes = b""
    """A git patch (-p1) that becomes part of the base commit of an image's own `workdir`."""
    base_commit: str = ""
    """The commit of the image's repository that stays, alone of its history; when empty, none does."""
    workdir: str = "/testbed"
    env: Mapping[str, str] = field(default_factory=dict)
    memory_mib: int = 512
    pids: int = 128
    cpus: float = 1.0
    disk_mib: int = 256
    """Writable bytes of the whole sandbox (its repository, /tmp and home together), in MiB."""


@dataclass(frozen=True, kw_only=True)
class ReapReport:
    """What a reaper found and did."""

    examined: int
    removed: tuple[str, ...]
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One sandbox that a backend knows of, whoever holds it."""

    id: str
    run: str
    expires: float
    """Unix seconds until when it is held."""
    abandoned: bool
    """Its lease has run out or its holder is dead: a reaper removes it."""


class Sandbox(Protocol):
    """One isolated machine for one rollout. Not thread-safe: one thread drives it."""

    id: str

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
        """Run `argv` to its end, deadline or output limit; every process it started is then dead.

        Raises SandboxGone, SandboxDestroyed.
        """
        ...

    def read(self, path: str, limit_bytes: int) -> bytes:
        """The regular file at absolute `path`. Raises SandboxPathError (missing, a link, larger than the limit)."""
        ...

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Create or replace the file at absolute `path`, with its parents. Raises SandboxPathError."""
        ...

    def diff(self) -> bytes:
        """A git patch (binary-safe, new files included) of `workdir` against the base commit.

        Made without trusting the repository's own .git, its configuration or its attributes.
        Raises SandboxDestroyed if the working tree is gone.
        """
        ...

    def renew(self, expires: float) -> None:
        """Extend the lease to `expires`, Unix seconds; from any thread. Raises SandboxGone."""
        ...

    def close(self) -> None:
        """Remove every trace: processes, mounts, files, cgroups. Safe to call twice; never raises."""
        ...


class Backend(Protocol):
    """Creates sandboxes of one kind and removes those that nobody owns any more."""

    name: str
    cores: int
    """Processors that run its sandboxes: what is admitted to it at once is measured by them (`sandbox.pool`)."""

    def create(self, spec: SandboxSpec) -> Sandbox:
        """Raises SandboxUnavailable with what is missing and how to get it."""
        ...

    def hidden_files(self, spec: SandboxSpec) -> bytes:
        """A tar archive of what `spec.hidden` took out of the image's `workdir`. Raises SandboxUnavailable."""
        ...

    def reap(self, *, run: str | None = None) -> ReapReport:
        """Remove sandboxes that are expired or whose owner is dead; with `run`, all of that run's."""
        ...

    def recorded(self) -> tuple[Recorded, ...]:
        """Every sandbox that there is, and removes none. Raises SandboxUnavailable."""
        ...


BACKENDS: dict[str, str] = {
    "bubblewrap": "sandbox.bubblewrap.backend:BubblewrapBackend",
    "docker": "sandbox.docker.backend:DockerBackend",
    "kubernetes": "sandbox.kubernetes.backend:KubernetesBackend",
}


def load_backend(name: str, **options: Any) -> Backend:
    """The backend called `name`. Raises ValueError naming the ones there are."""
    if name not in BACKENDS:
        raise ValueError(
            f"sandbox backend {name!r}: not available; choose one of {', '.join(BACKENDS)}"
        )
    module, _, attribute = BACKENDS[name].partition(":")
    backend: Backend = getattr(import_module(module), attribute)(**options)
    return backend
