"""Child processes that never outlive us: they die with their parent, and end as a whole group."""

import ctypes
import os
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """In a child, before exec: the kernel kills it when the thread that started it ends (Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_group(process: "subprocess.Popen[bytes]", grace_s: float) -> None:
    """SIGTERM the process's group, SIGKILL what is left after `grace_s` seconds, and wait."""
    signal_group(process.pid, signal.SIGTERM)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        pass
    signal_group(process.pid, signal.SIGKILL)
    process.wait()


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the group led by `pid`; a group that is gone is fine."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass
