"""What whoever started a run reads from how its process ended: all is said, or start it again.

A process that was killed is started again and goes on from its checkpoint, one that ends by itself is not (`trainer.__main__`
has the exit codes). So where one of several processes was killed, those that wait for it end as if they had been.
"""

import os
import signal
from collections import deque
from pathlib import Path

from sandbox.event_log import read_lines
from trainer.events import EVENTS_FILE, Finished, parse_event

EXIT_RANK_LOST = 75
"""EX_TEMPFAIL of sysexits.h: another rank was lost, and the run is to be started again."""


def last_word(run_dir: Path) -> Finished | None:
    """Its last event, where that says how the run ended."""
    path = run_dir / EVENTS_FILE
    last = deque(read_lines(path), maxlen=1) if path.exists() else ()
    event = parse_event(last[0][1]) if last else None
    return event if isinstance(event, Finished) else None


def die_by(number: int) -> None:
    """End this process by a signal."""
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
