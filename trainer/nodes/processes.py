"""Child processes that never outlive us: started under `trainer.nodes.guard`, and ended as a whole group."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from trainer.nodes import guard

CLOSE_TIMEOUT_S = guard.GRACE_S + guard.TRACKER_GRACE_S + 1.0


class GuardedProcess:
    """A command with all that it starts; it ends when we close it and when this process dies, however it dies."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], output: IO[bytes] | int
    ) -> None:
        """Raises OSError when the machine has no room for another process."""
        theirs, self._ours = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(guard.__file__)), str(theirs), *command],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs],
                process_group=0,
            )
        finally:
            os.close(theirs)
        self.pid = self._process.pid
        """Leads the command's process group."""

    def exit_code(self) -> int | None:
        """None while it runs; 128 + the signal's number for a command that was killed."""
        return self._process.poll()

    def close(self) -> None:
        """End all of it: at once where it listens to SIGTERM, in a few seconds where not. Safe to call twice."""
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_TIMEOUT_S)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
