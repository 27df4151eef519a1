"""Bounded admission to a backend: at most so many operations and starts at once, leases renewed
while held, and every sandbox closed when the pool is.

An engine's throughput is flat beyond about three operations a core, and more only adds latency
(measured for Docker); starts are the heaviest of them. A pool is itself a `Backend`, so callers need
not know of it. It keeps no sandboxes in advance: docs/sandbox.md says why. What becomes of a sandbox
whose lease has run out is `sandbox.reap`'s affair.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sandbox.base import (
    DEFAULT_MAX_OUTPUT_BYTES,
    Backend,
    ExecResult,
    ReapReport,
    Recorded,
    Sandbox,
    SandboxSpec,
    User,
)
from sandbox.errors import SandboxError, SandboxUnavailable

log = logging.getLogger(__name__)

OPERATIONS_PER_CORE = 3
STARTS_PER_CORE = 2
LEASE_S = 900.0
"""How far ahead a lease is set: as long a silence of the holder, and anybody may remove its sandboxes."""
RENEW_EVERY_S = 300.0


class Pool:
    """A backend behind a gate; thread-safe."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_operations: int = 0,
        lease_s: float = LEASE_S,
        renew_every_s: float = RENEW_EVERY_S,
    ) -> None:
        self.name, self.cores = backend.name, backend.cores
        self._backend, self._lease_s, self._renew_every_s = backend, lease_s, renew_every_s
        operations = max_operations or OPERATIONS_PER_CORE * self.cores
        self._gate = threading.BoundedSemaphore(operations)
        self._starts = threading.BoundedSemaphore(min(operations, STARTS_PER_CORE * self.cores))
        self._lock = threading.Lock()
        self._leased: dict[str, PooledSandbox] = {}
        self._closed = threading.Event()
        self._renewer: threading.Thread | None = None

    def create(self, spec: SandboxSpec) -> "PooledSandbox":
        """As the backend's, once admitted, and held for `lease_s` from then on at least. Raises SandboxUnavailable, also
        once the pool is closed.
        """
        # The wait for a start is outside the gate, so that commands pass by those who wait.
        with self._starts, self._gate:
            if self._closed.is_set():
                raise SandboxUnavailable("the pool of sandboxes is closed")
            inner = self._backend.create(self._leased_anew(spec))
            sandbox = PooledSandbox(inner, self._gate, self._leased)
        with self._lock:
            self._leased[sandbox.id] = sandbox
            if self._renewer is None:
                self._renewer = threading.Thread(target=self._renew, name="leases", daemon=True)
                self._renewer.start()
        if self._closed.is_set():
            sandbox.close()
        return sandbox

    def _leased_anew(self, spec: SandboxSpec) -> SandboxSpec:
        """Its labels may be those of a sandbox that is renewed since they were written."""
        expires = max(spec.labels.expires, time.time() + self._lease_s)
        return replace(spec, labels=replace(spec.labels, expires=expires))

    def _renew(self) -> None:
        """Keep the leases of what is held ahead of the clock, until the pool is closed."""
        while not self._closed.wait(self._renew_every_s):
            for sandbox in list(self._leased.values()):
                try:
                    sandbox.renew(time.time() + self._lease_s)
                except (SandboxError, OSError) as error:
                    log.warning("%s", error)

    def hidden_files(self, spec: SandboxSpec) -> bytes:
        """As the backend's, once admitted: it may have to make the image's repository ready."""
        with self._gate:
            return self._backend.hidden_files(self._leased_anew(spec))

    @property
    def leased(self) -> int:
        """Sandboxes given out and not closed."""
        return len(self._leased)

    def reap(self, *, run: str | None = None) -> ReapReport:
        """As the backend's."""
        return self._backend.reap(run=run)

    def recorded(self) -> tuple[Recorded, ...]:
        """As the backend's."""
        return self._backend.recorded()

    def close(self) -> None:
        """Close every sandbox that was given out, and give out no more. Safe to call twice."""
        self._closed.set()
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

    def renew(self, expires: float) -> None:
        """Not gated: a lease must not run out for want of a place."""
        self._inner.renew(expires)

    def close(self) -> None:
        """Not gated: freeing must never wait for work."""
        self._inner.close()
        self._leased.pop(self.id, None)
