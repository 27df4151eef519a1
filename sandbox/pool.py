"""Bounded admission to a backend: at most so many operations at once, and every sandbox closed when
the pool is.

An engine's throughput is flat beyond about three operations a core, and more only adds latency
(measured for Docker). A pool is itself a `Backend`, so callers need not know of it. Who may keep a
sandbox is told by its labels and by `sandbox.reap`, not here.
"""

import os
import threading
from collections.abc import Mapping, Sequence

from sandbox.base import (
    DEFAULT_MAX_OUTPUT_BYTES,
    Backend,
    ExecResult,
    ReapReport,
    Sandbox,
    SandboxSpec,
    User,
)
from sandbox.errors import SandboxUnavailable

OPERATIONS_PER_CORE = 3


class Pool:
    """A backend behind a gate; thread-safe."""

    def __init__(self, backend: Backend, *, max_operations: int = 0) -> None:
        self.name = backend.name
        self._backend = backend
        self._gate = threading.BoundedSemaphore(
            max_operations or OPERATIONS_PER_CORE * (os.cpu_count() or 1)
        )
        self._lock = threading.Lock()
        self._leased: dict[str, PooledSandbox] = {}
        self._closed = False

    def create(self, spec: SandboxSpec) -> "PooledSandbox":
        """As the backend's, once admitted. Raises SandboxUnavailable, also once the pool is closed."""
        with self._gate:
            if self._closed:
                raise SandboxUnavailable("the pool of sandboxes is closed")
            sandbox = PooledSandbox(self._backend.create(spec), self._gate, self._leased)
        with self._lock:
            self._leased[sandbox.id] = sandbox
        if self._closed:
            sandbox.close()
        return sandbox

    def hidden_files(self, spec: SandboxSpec) -> bytes:
        """As the backend's, once admitted: it may have to make the image's repository ready."""
        with self._gate:
            return self._backend.hidden_files(spec)

    @property
    def leased(self) -> int:
        """Sandboxes given out and not closed."""
        return len(self._leased)

    def reap(self, *, run: str | None = None) -> ReapReport:
        """As the backend's."""
        return self._backend.reap(run=run)

    def close(self) -> None:
        """Close every sandbox that was given out, and give out no more. Safe to call twice."""
        self._closed = True
        for sandbox in list(self._leased.values()):
            sandbox.close()


class PooledSandbox:
    """A sandbox whose operations wait at the pool's gate. Raises what the inner sandbox raises."""

    def __init__(
        self, inner: Sandbox, gate: threading.BoundedSemaphore, leased: dict[str, "PooledSandbox"]
    ) -> None:
        self.id = inner.id
        self._inner, self._gate, self._leased = inner, gate, leased

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
        """As the backend's; the wait at the gate does not count against `timeout_s`."""
        with self._gate:
            return self._inner.exec(
                argv,
                stdin=stdin,
                cwd=cwd,
                env=env,
                user=user,
                timeout_s=timeout_s,
                max_output_bytes=max_output_bytes,
            )

    def read(self, path: str, limit_bytes: int) -> bytes:
        with self._gate:
            return self._inner.read(path, limit_bytes)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        with self._gate:
            self._inner.write(path, data, mode)

    def diff(self) -> bytes:
        with self._gate:
            return self._inner.diff()

    def close(self) -> None:
        """Not gated: freeing must never wait for work."""
        self._inner.close()
        self._leased.pop(self.id, None)
