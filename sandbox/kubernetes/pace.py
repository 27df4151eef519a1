"""A bound on how often something is done: on average so often a second, whatever the number of threads that want to.

The generic cell rate algorithm (ITU-T I.371), with a second's worth of calls as its burst.
"""

import threading
import time

_BURST_S = 1.0


class Pace:
    """Thread-safe. First come, first served."""

    def __init__(self, per_s: float) -> None:
        self._interval_s = 1 / per_s
        self._lock = threading.Lock()
        self._next = 0.0
        """When the next call would be due, were they spread evenly; on the monotonic clock."""

    def wait(self) -> None:
        """Return when this call may be made."""
        with self._lock:
            now = time.monotonic()
            due = max(self._next, now - _BURST_S)
            self._next = due + self._interval_s
        if due > now:
            time.sleep(due - now)
