"""A child process of a supervisor that simply starts again what was cut off: validations, shards of evaluations, assessments.

Runs are held by `supervise` and `processes`, which also adopt a process that outlived its worker.
"""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connections

from webapp.runs import processes
from webapp.runs.event_files import StorageAway

logger = logging.getLogger(__name__)

POLL_S = 0.5
RENEW_S = 5.0


class HeldLease:
    """A lease that a thread of its own renews, whatever its holder is at, until the block ends or somebody else has it.

    While the database does not answer it counts as held.
    """

    def __init__(self, id: UUID, renew: Callable[[], bool]) -> None:
        self.id, self.lost = id, False
        self._renew, self._ended = renew, threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def is_held(self) -> bool:
        """As the database says now; its errors pass through."""
        self.lost = self.lost or not self._renew()
        return not self.lost

    def _keep(self) -> None:
        try:
            while not self.lost and not self._ended.wait(RENEW_S):
                if error := _put_off(self.is_held):
                    logger.warning("lease %s: not renewed at present: %s", self.id, error)
        finally:
            connections.close_all()


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
    lease: HeldLease,
    shutdown: threading.Event,
    stop_wanted: Callable[[], bool],
    grace_s: float,
) -> bool:
    """Until the process has ended and all that it said is stored. False when the lease was lost: it may still be at work.

    `look` stores what is new; while the database or the storage is away the process goes on. One that is to stop is told so,
    and killed `grace_s` later. Raises as `stored` does.
    """
    asked_at, away = 0.0, False
    while process.poll() is None:
        time.sleep(POLL_S)
        if lease.lost:
            return False
        error = _put_off(look)
        if error and not away:
            logger.warning("lease %s: cannot be stored, tried again: %s", lease.id, error)
        away = error is not None
        if stop_wanted():
            if not asked_at:
                asked_at = time.monotonic()
                process.terminate()
            elif time.monotonic() - asked_at > grace_s:
                process.kill()
    return stored(look, lease, shutdown)


def stored(look: Callable[[], None], lease: HeldLease, shutdown: threading.Event) -> bool:
    """Look until it succeeds, however long the database or the storage is away. False when the lease is lost.

    Raises what went wrong last once `shutdown` is set.
    """
    while not lease.lost:
        error = _put_off(look)
        if error is None:
            return lease.is_held()
        if shutdown.wait(RENEW_S):
            raise error
    return False


def end(process: subprocess.Popen[bytes], mark: UUID, lease: HeldLease) -> None:
    """Kill what is left of it: all that carries the mark, or its own group where the mark may be the next holder's."""
    process.kill()
    held = False
    with suppress(OperationalError, InterfaceError):
        held = lease.is_held()
    if held:
        processes.sweep(mark)
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _put_off(work: Callable[[], object]) -> Exception | None:
    """Do it. What went wrong, where it can be done later: the database or the storage is away."""
    try:
        work()
    except (OperationalError, InterfaceError, StorageAway) as error:
        close_old_connections()
        return error
    return None
