"""At most so many rollouts in flight: the moment a slot is free the next one begins, the most urgent first.

A thread a slot, started when it is first needed. What is run is a function of no arguments; nothing here knows of rollouts.
"""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import inf
from queue import Empty, PriorityQueue


@dataclass(frozen=True, order=True)
class _Work:
    urgency: float
    """The lowest goes first."""
    number: int
    """Equally urgent ones go in the order in which they came."""
    run: Callable[[], None] | None = field(compare=False)
    """None ends the thread that takes it."""
    done: "Future[None]" = field(compare=False)


class Slots:
    """One thread submits and closes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: PriorityQueue[_Work] = PriorityQueue()
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []

    def submit(self, run: Callable[[], None], *, urgency: float) -> "Future[None]":
        """What became of `run`: done, its exception, or cancelled by `close`."""
        work = _Work(urgency, next(self._numbers), run, Future())
        self._waiting.put(work)
        if len(self._threads) < self._size:
            thread = threading.Thread(target=self._serve, name="rollout", daemon=True)
            self._threads.append(thread)
            thread.start()
        return work.done

    def close(self) -> None:
        """Cancel what waits and return when all that runs has ended."""
        while True:
            try:
                self._waiting.get_nowait().done.cancel()
            except Empty:
                break
        for _ in self._threads:
            self._waiting.put(_Work(inf, next(self._numbers), None, Future()))
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _serve(self) -> None:
        while (work := self._waiting.get()).run is not None:
            if not work.done.set_running_or_notify_cancel():
                continue
            try:
                work.run()
            except BaseException as error:
                work.done.set_exception(error)
            else:
                work.done.set_result(None)
