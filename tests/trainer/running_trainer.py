"""`python -m trainer` as a process of its own for tests: a run's folder, what happens in it, and what outlives the process.

It holds no claim about runs but how an ordered end looks; `test_faults` and others do.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import tomli_w

from sandbox.bubblewrap.records import STATE, read_records
from trainer.config import CONFIG_FILE, TrainConfig
from trainer.engines.weights import PREFIX, SHARED_MEMORY
from trainer.events import (
    EVENTS_FILE,
    AnyEvent,
    CheckpointSaved,
    Finished,
    Started,
    read_events,
)

ROOT = Path(__file__).parents[2]
MARK = "TRAINER_TEST_RUN"
START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 10.0
EXIT_TIMEOUT_S = 60.0
"""Generous: an interpreter with torch inside takes its time to end on a busy machine."""


class Run:
    """A run folder and the trainer process that works on it."""

    def __init__(self, folder: Path, module: str = "trainer") -> None:
        self.folder, self.module = folder, module
        self.mark = uuid4().hex
        self.process: subprocess.Popen[bytes] | None = None
        self.signalled = datetime.now(UTC)

    def start(self, *arguments: str) -> None:
        with (self.folder / "output.log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, str(self.folder), *arguments],
                cwd=ROOT,
                env=os.environ | {MARK: self.mark, "OMP_NUM_THREADS": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def events(self) -> list[AnyEvent]:
        path = self.folder / EVENTS_FILE
        return [event for _, event in read_events(path)] if path.exists() else []

    def until(self, happened: Callable[[AnyEvent], bool]) -> None:
        """Return as soon as an event is written for which `happened` is true."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not any(map(happened, self.events())):
            assert self.process
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        assert self.process
        self.signalled = datetime.now(UTC)
        self.process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        assert self.process
        return self.process.wait(timeout_s)

    def output(self) -> str:
        return (self.folder / "output.log").read_text()

    def end(self) -> None:
        """Kill the process where it is still alive."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def run_id(self) -> str:
        return str(next(e.run for e in self.events() if isinstance(e, Started)))

    def processes(self) -> list[str]:
        """Command lines of what still runs of it, at whatever depth."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found

    def left_behind(self) -> list[str]:
        """Processes, sandboxes and weights that outlived the trainer."""
        sandboxes = [r.id for _, r in read_records(STATE) if r.labels.run == self.run_id()]
        weights = map(str, SHARED_MEMORY.glob(f"{PREFIX}{self.run_id()}-*"))
        return [*self.processes(), *sandboxes, *weights]


def write_config(config: TrainConfig, folder: Path) -> Path:
    """`folder`, made a run's."""
    folder.mkdir(exist_ok=True)
    (folder / CONFIG_FILE).write_text(tomli_w.dumps(config.model_dump(mode="json")))
    return folder


def last(events: list[AnyEvent]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def of(kind: type, events: list[AnyEvent]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def assert_gapless(events: list[AnyEvent]) -> None:
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


def assert_stopped(run: Run, *, at_step: int) -> None:
    """It ends in time and in order: a checkpoint of what was done, `stopped` last, nothing left."""
    assert run.wait(EXIT_TIMEOUT_S) == 0, run.output()
    events = run.events()
    assert_gapless(events)
    assert (last(events).status, last(events).step) == ("stopped", at_step)
    assert (last(events).time - run.signalled).total_seconds() < STOP_TIMEOUT_S
    saved = [event.step for event in of(CheckpointSaved, events)]
    assert saved[-1:] == ([at_step] if at_step else [])
    assert run.left_behind() == []
