"""A stand-in for a sandbox backend: a command takes the seconds that one took in a real run, prints nothing and does nothing.

So a hundred rollouts at once need no cores, and what is timed is the scheduling around them. Nothing is graded but the patch
that changes nothing.
"""

import itertools
import threading
import time
from collections.abc import Mapping, Sequence

from sandbox.base import (
    DEFAULT_MAX_OUTPUT_BYTES,
    ExecResult,
    ReapReport,
    Recorded,
    SandboxSpec,
    User,
)
from sandbox.errors import End


class RecordedBackend:
    name = "recorded"
    cores = 1000
    """Commands only sleep, so nothing is to be held back for want of processors."""

    def __init__(self, tool_seconds: Sequence[float]) -> None:
        """`tool_seconds`: of the commands, in the order in which they are run; then from the first again."""
        self._seconds = itertools.cycle(tool_seconds)
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def create(self, spec: SandboxSpec) -> "RecordedSandbox":
        return RecordedSandbox(f"recorded-{next(self._numbers)}", self)

    def hidden_files(self, spec: SandboxSpec) -> bytes:
        return b""

    def reap(self, *, run: str | None = None) -> ReapReport:
        return ReapReport(examined=0, removed=())

    def recorded(self) -> tuple[Recorded, ...]:
        return ()

    def next_seconds(self) -> float:
        with self._lock:
            return next(self._seconds)


class RecordedSandbox:
    def __init__(self, name: str, backend: RecordedBackend) -> None:
        self.id = name
        self._backend = backend

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
        seconds = self._backend.next_seconds()
        time.sleep(seconds)
        return ExecResult(stdout=b"", stderr=b"", exit_code=0, end=End.EXITED, duration_s=seconds)

    def read(self, path: str, limit_bytes: int) -> bytes:
        return b""

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        pass

    def diff(self) -> bytes:
        return b""

    def renew(self, expires: float) -> None:
        pass

    def close(self) -> None:
        pass
