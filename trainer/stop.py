"""What ends a run early. Whatever waits or loops asks `stopping()` and raises this; `trainer.train` then saves."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOPPED = 3
"""The exit code of a process that was told to stop and has kept what it did."""


class RunStopped(Exception):
    """The run was asked to stop: what was going on is given up."""


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM or SIGINT sets while the block runs; afterwards they do what they did before."""
    stop = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
