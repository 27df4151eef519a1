"""A trainer that is killed at one line after another, each time started again, until it comes to its end.

    python -m tests.trainer.dies_anywhere record RUN_DIR RECORD      a run as it is, its completions written to RECORD
    python -m tests.trainer.dies_anywhere die RUN_DIR RECORD EVERY   RUN_DIR with them, killed at every EVERY-th line

A line counts when it is reached for the first time, in `trainer.train` and in what it starts, saves, hands over and schedules
with.
The trainer is a forked copy of this process each time, which saves its start. Prints the lines at which it died.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from tests.trainer.recorded_rollouts import RecordedEngine
from trainer import train
from trainer.__main__ import run
from trainer.config import CONFIG_FILE, load_config
from trainer.engines import weights
from trainer.engines.generate import start_engine
from trainer.nodes.world import ALONE
from trainer.rollouts import staleness
from trainer.training import checkpoint, equipment

MODULES = (train, equipment, checkpoint, weights, staleness)
FILES = {module.__file__ for module in MODULES}


class Killer:
    """A trace function that kills this process at the `last` new line."""

    def __init__(self, last: int) -> None:
        self._last = last
        self._reached: set[tuple[str, int]] = set()

    def on_call(self, frame: FrameType, event: str, _: Any) -> Any:
        return self.on_line if frame.f_code.co_filename in FILES else None

    def on_line(self, frame: FrameType, event: str, _: Any) -> Any:
        line = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and line not in self._reached:
            self._reached.add(line)
            if len(self._reached) == self._last:
                print(f"{Path(line[0]).name}:{line[1]}", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        return self.on_line


def attempt(run_dir: Path, record: Path, last_line: int) -> int:
    """Exit code of the trainer in a forked copy of this process; negative: the signal that killed it."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    equipment.start_engine = lambda *_: RecordedEngine(record)
    sys.settrace(Killer(last_line).on_call)
    os._exit(train_alone(run_dir))


def train_alone(run_dir: Path) -> int:
    config = load_config(run_dir / CONFIG_FILE)
    return run(config, run_dir, None, ALONE, stopping=lambda: False)


def main() -> int:
    command, run_dir, record = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if command == "record":
        equipment.start_engine = lambda *a: RecordedEngine(record, start_engine(*a))
        return train_alone(run_dir)
    every = int(sys.argv[4])
    line = every
    while (code := attempt(run_dir, record, line)) == -signal.SIGKILL:
        line += every
    return code


if __name__ == "__main__":
    sys.exit(main())
