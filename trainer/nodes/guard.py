"""Runs a command so that neither it nor anything it starts outlives the process that asked for it.

    python guard.py FD COMMAND...

FD is the read end of a pipe whose other end the asker alone holds: the kernel closes it when the asker dies, however it
dies. Then, or when the command itself ends, the whole process group is asked to end, and killed after a grace. Python's
resource trackers are killed last: they remove the shared memory of those that could not. Started as the leader of a new
group, as a plain script: the standard library alone, so it is up in a few hundredths of a second. Linux only.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
GRACE_S = 3.0
TRACKER_GRACE_S = 1.5


def main() -> int:
    fd, command = int(sys.argv[1]), sys.argv[2:]
    # orphans of the command become our children, so that we see when the last one is gone
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    # a signal to the group is for the command; not SIG_IGN, which the command would inherit
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    child = subprocess.Popen(command)
    select.select([fd, os.pidfd_open(child.pid)], [], [])
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while _has_children(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    deadline = time.monotonic() + TRACKER_GRACE_S
    while _has_children(child) and time.monotonic() < deadline:
        _kill_all_but_trackers()
        time.sleep(0.02)
    if _has_children(child):
        os.killpg(0, signal.SIGKILL)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _has_children(child: "subprocess.Popen[bytes]") -> bool:
    """Reap what has ended; the command's own exit code goes to `child`."""
    if child.poll() is None:
        return True
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _kill_all_but_trackers() -> None:
    """SIGKILL our children; theirs become ours, and are met the next time."""
    me = os.getpid()
    for pid in Path(f"/proc/{me}/task/{me}/children").read_text().split():
        with contextlib.suppress(OSError):
            if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
