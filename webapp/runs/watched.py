"""A child process of a supervisor that simply starts again what was cut off: validations and shards of evaluations.

Runs are held by `supervise` and `processes`, which also adopt a process that outlived its worker.
"""

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

from django.conf import settings

from webapp.runs import processes

POLL_S = 0.5
RENEW_S = 5.0


def start(command: Sequence[str], folder: Path, mark: UUID) -> subprocess.Popen[bytes]:
    """The process, in a session of its own and marked as this row's; what it prints goes to `processes.OUTPUT_FILE`."""
    with (folder / processes.OUTPUT_FILE).open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=settings.BASE_DIR,
            env=settings.CHILD_ENVIRONMENT | {processes.MARK: str(mark)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def watch(
    process: subprocess.Popen[bytes],
    *,
    look: Callable[[], None],
    renew: Callable[[], bool],
    stop_wanted: Callable[[], bool],
    grace_s: float,
) -> bool:
    """Until the process ends. False when the lease was lost, and the process is still at work.

    `look` stores what is new and `renew` keeps the lease. A process that is to stop is told so, and killed `grace_s` later.
    """
    renewed_at, asked_at = time.monotonic(), 0.0
    while process.poll() is None:
        time.sleep(POLL_S)
        look()
        if time.monotonic() - renewed_at > RENEW_S:
            renewed_at = time.monotonic()
            if not renew():
                return False
        if stop_wanted():
            if not asked_at:
                asked_at = time.monotonic()
                process.terminate()
            elif time.monotonic() - asked_at > grace_s:
                process.kill()
    return True
