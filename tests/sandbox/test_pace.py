"""The bound on how often something is done: lower bounds of time only, so that a busy machine changes nothing."""

import threading
import time

from sandbox.kubernetes.pace import Pace


def test_threads_together_keep_the_pace_beyond_a_second_of_calls() -> None:
    pace = Pace(40)
    began = time.monotonic()
    threads = [threading.Thread(target=pace.wait) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began >= (60 - 41) / 40


def test_silence_is_not_saved_up_for_longer_than_a_second() -> None:
    pace = Pace(20)
    pace.wait()
    time.sleep(1.5)
    began = time.monotonic()
    for _ in range(30):
        pace.wait()
    assert time.monotonic() - began >= (30 - 21) / 20
