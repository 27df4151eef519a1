"""The engine's own interface, in which a silent engine is given up in time.

PyPI's `docker` waits for half a minute for any answer, and an engine that is stopped gives none. Within `answering_by` no
call of this thread waits for long beyond a deadline, unless the engine shows that it lives and is only slow. What a lost
answer means for a command is decided in `sandbox.docker.exec` and `sandbox.docker.sandbox`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import docker
import requests
from docker.errors import DockerException

LOST = (DockerException, OSError)
"""What the client raises when the engine refuses, is gone, or is silent."""
_PATIENCE_S = 1.0
"""How long beyond the deadline a call may be unanswered."""
_LEAST_S = 0.7
"""For a call that is made after the deadline."""
_ALIVE_S = 0.5
"""How long an engine may take after that to show that it lives."""


@dataclass
class _Wait:
    deadline: float
    silent: bool = False


_wait: ContextVar[_Wait | None] = ContextVar("wait", default=None)


@contextmanager
def answering_by(deadline: float) -> Iterator[None]:
    """Give up an engine that says nothing at `deadline`, of time.monotonic: within two seconds of it all calls fail."""
    before = _wait.set(_Wait(deadline))
    try:
        yield
    finally:
        _wait.reset(before)


class Engine(docker.DockerClient):  # type: ignore[misc]
    """A client whose calls heed `answering_by`."""

    def __init__(self, **options: Any) -> None:
        self.api = EngineApi(**options)


class EngineApi(docker.APIClient):  # type: ignore[misc]
    """Thread-safe, as is the client it is made of."""

    def send(self, request: Any, **options: Any) -> Any:
        """One call. Raises requests' exceptions, which are OSErrors."""
        wait = _wait.get()
        if wait is None:
            return super().send(request, **options)
        latest = time.monotonic() + self.timeout
        while True:
            if wait.silent:
                raise requests.ReadTimeout("no answer from the engine")
            now = time.monotonic()
            left = max(_LEAST_S, wait.deadline + _PATIENCE_S - now)
            options["timeout"] = min(left, latest - now)
            try:
                return super().send(request, **options)
            except requests.ReadTimeout:
                wait.silent = not self._lives()
                if not _repeatable(request) or time.monotonic() > latest - _LEAST_S:
                    raise

    def _lives(self) -> bool:
        """Whether the engine answers what it answers however busy it is with containers."""
        request = self.prepare_request(requests.Request("GET", f"{self.base_url}/_ping"))
        try:
            super().send(request, timeout=_ALIVE_S)
        except OSError:
            return False
        return True


def _repeatable(request: Any) -> bool:
    """Whether a call that may have been heard does no harm when made again: a command made and never started is nothing."""
    return bool(request.method == "GET" or request.url.endswith("/exec"))
