"""Raises and clears a run's alarms: after each step, and while one goes on for too long. Rules: `trainer.metrics.alarms`."""

import threading
import time
from pathlib import Path

from trainer.events import (
    EVENTS_FILE,
    Alarm,
    EventWriter,
    StepEnded,
    counted_steps,
    read_events_of,
)
from trainer.metrics.alarms import STALL, changes, stall, standing_alarms

POLL_S = 5.0


class AlarmWatch:
    """Knows the steps of this run, earlier attempts included. Its thread ends with `close`."""

    def __init__(self, run_dir: Path, events: EventWriter, poll_s: float = POLL_S) -> None:
        earlier = list(read_events_of(run_dir / EVENTS_FILE, {"step", "alarm", "resumed"}))
        self._events = events
        self._steps = counted_steps(earlier)
        self._standing = set(standing_alarms(earlier))
        self._began: tuple[int, float] | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(poll_s,), daemon=True)
        self._thread.start()

    def step_began(self, step: int) -> None:
        with self._lock:
            self._began = (step, time.monotonic())

    def step_ended(self, ended: StepEnded) -> None:
        with self._lock:
            self._end_stall()
            self._steps.append(ended)
            history = [step.metrics for step in self._steps]
            for alarm in changes(history, self._standing, ended.step):
                self._tell(alarm)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        with self._lock:
            self._end_stall()

    def _look(self, poll_s: float) -> None:
        while not self._closed.wait(poll_s):
            with self._lock:
                if self._began is None or STALL in self._standing:
                    continue
                step, began = self._began
                earlier_s = [ended.seconds for ended in self._steps]
                if alarm := stall(step, time.monotonic() - began, earlier_s):
                    self._tell(alarm)

    def _end_stall(self) -> None:
        if self._began is not None and STALL in self._standing:
            sentence = f"Step {self._began[0]} goes on no longer."
            self._tell(
                Alarm(step=self._began[0], rule=STALL, sentence=sentence, remedy="", cleared=True)
            )
        self._began = None

    def _tell(self, alarm: Alarm) -> None:
        self._events.write(alarm)
        (self._standing.discard if alarm.cleared else self._standing.add)(alarm.rule)
