"""Where wall time goes: sums of named stretches, and how long something was busy with at least one of many calls."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds by name. One thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add what the block takes to `name`, also when it raises."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began


class BusyClock:
    """Wall time in which at least one call was in flight: overlapping calls count once. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_flight = 0
        self._since = 0.0
        self._total = 0.0

    @contextmanager
    def call(self) -> Iterator[None]:
        self._turn(+1)
        try:
            yield
        finally:
            self._turn(-1)

    def busy_s(self) -> float:
        """Since this clock was made; the stretch that is going on counts."""
        with self._lock:
            return self._total + (time.monotonic() - self._since if self._in_flight else 0.0)

    def _turn(self, change: int) -> None:
        with self._lock:
            now = time.monotonic()
            if self._in_flight:
                self._total += now - self._since
            self._in_flight += change
            self._since = now
