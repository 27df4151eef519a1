"""What whoever started a run reads from how its process ended: all is said, or start it again.

A process that was killed is started again and goes on from its checkpoint, one that ends by itself is not (`trainer.__main__`
has the exit codes). So where one of several processes was killed, those that wait for it end as if they had been.
"""

import os
import signal
from pathlib import Path

from trainer.events import EVENTS_FILE, Finished, read_events

EXIT_RANK_LOST = 75
"""EX_TEMPFAIL of sysexits.h: another rank was lost, and the run is to be started again."""


def last_word(run_dir: Path) -> Finished | None:
    """Its last event, where that says how the run ended."""
    path = run_dir / EVENTS_FILE
    events = [event for _, event in read_events(path)] if path.exists() else []
    return events[-1] if events and isinstance(events[-1], Finished) else None


def die_by(number: int) -> None:
    """End this process by a signal."""
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
