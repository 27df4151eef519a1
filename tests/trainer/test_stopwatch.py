"""Wall time in which something was in flight: overlaps count once, and gaps do not count."""

import threading
import time

import pytest

from trainer.metrics.stopwatch import BusyClock, Stopwatch


def test_overlapping_calls_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = BusyClock()
    now[0] = 1.0
    with clock.call():
        now[0] = 2.0
        with clock.call():
            now[0] = 4.0
        now[0] = 5.0
        assert clock.busy_s() == 4.0
    now[0] = 9.0
    with clock.call():
        now[0] = 9.5
    assert clock.busy_s() == 4.5


def test_calls_of_many_threads_leave_nothing_in_flight() -> None:
    clock = BusyClock()

    def work() -> None:
        for _ in range(200):
            with clock.call():
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    busy_s = clock.busy_s()
    time.sleep(0.02)
    assert clock.busy_s() == busy_s


def test_a_stretch_that_raises_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watch = Stopwatch()

    def fail_after(seconds: float) -> None:
        now[0] += seconds
        raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"), watch.timing("part"):
        fail_after(3.0)
    assert watch.seconds == {"part": 3.0}
