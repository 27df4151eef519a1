"""Slots: never more in flight than there are, none left empty, the most urgent first."""

import threading
import time
from concurrent.futures import CancelledError
from itertools import count

import pytest

from trainer.rollouts.slots import Slots


def test_never_more_run_at_once_than_there_are_slots_and_none_stays_empty() -> None:
    slots, lock = Slots(3), threading.Lock()
    running: set[int] = set()
    most, names = 0, count()
    gate = threading.Barrier(3)

    def run() -> None:
        nonlocal most
        with lock:
            name = next(names)
            running.add(name)
            most = max(most, len(running))
        gate.wait(10)  # all three meet here, or nobody goes on
        with lock:
            running.remove(name)

    done = [slots.submit(run, urgency=1) for _ in range(9)]
    for future in done:
        future.result(10)
    assert most == 3
    slots.close()


def test_the_most_urgent_goes_first_and_equals_in_their_order() -> None:
    slots, order = Slots(1), []
    blocked = threading.Event()
    first = slots.submit(lambda: bool(blocked.wait(10)) and None, urgency=0)
    done = [
        slots.submit(lambda name=name: order.append(name), urgency=urgency)
        for name, urgency in [("b2", 2), ("a1", 1), ("b3", 2), ("evaluation", 0)]
    ]
    blocked.set()
    for future in [first, *done]:
        future.result(10)
    assert order == ["evaluation", "a1", "b2", "b3"]
    slots.close()


def test_an_exception_is_the_futures_and_the_slot_goes_on() -> None:
    slots = Slots(1)
    failed = slots.submit(lambda: int("no") and None, urgency=1)
    with pytest.raises(ValueError, match="invalid literal"):
        failed.result(10)
    assert slots.submit(lambda: None, urgency=1).result(10) is None
    slots.close()


def test_close_cancels_what_waits_and_waits_for_what_runs() -> None:
    slots, ended, begun = Slots(1), [], threading.Event()

    def run() -> None:
        begun.set()
        time.sleep(0.2)
        ended.append(True)

    running = slots.submit(run, urgency=1)
    waiting = slots.submit(lambda: ended.append(False), urgency=1)
    assert begun.wait(10)
    slots.close()
    assert ended == [True]
    assert running.done()
    with pytest.raises(CancelledError):
        waiting.result(0)
