"""A guarded command and all that it starts end with it, with us, and when we ask."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

from trainer.nodes.processes import GuardedProcess

ROOT = Path(__file__).parents[2]
MARK = "GUARD_TEST"
STUBBORN = "trap '' TERM; sleep 1000 & (setsid sleep 1000 &); sleep 1000"
ASKER = """
import os, subprocess, sys, time
from trainer.nodes.processes import GuardedProcess

process = GuardedProcess(["sh", "-c", sys.argv[1]], env=os.environ, output=subprocess.DEVNULL)
print("ready", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def mark() -> str:
    return uuid4().hex


def living(mark: str) -> list[str]:
    """Command lines of the processes with this mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def wait_until_gone(mark: str, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while living(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert living(mark) == []


def guarded(command: str, mark: str, tmp_path: Path) -> GuardedProcess:
    with (tmp_path / "output").open("wb") as output:
        return GuardedProcess(["sh", "-c", command], env=os.environ | {MARK: mark}, output=output)


def test_a_command_dies_with_its_asker_even_when_it_ignores_sigterm(mark: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ASKER, STUBBORN],
        cwd=ROOT,
        env=os.environ | {MARK: mark},
        stdout=subprocess.PIPE,
    ) as asker:
        assert asker.stdout
        assert asker.stdout.readline() == b"ready\n"
        time.sleep(0.5)
        assert sum("sleep 1000" in line for line in living(mark)) >= 3
        asker.kill()
    wait_until_gone(mark)


def test_close_ends_at_once_what_listens(mark: str, tmp_path: Path) -> None:
    process = guarded("sleep 1000 & sleep 1000", mark, tmp_path)
    assert process.exit_code() is None
    time.sleep(0.3)
    began = time.monotonic()
    process.close()
    process.close()
    assert time.monotonic() - began < 2.5
    assert living(mark) == []


def test_what_a_command_leaves_ends_with_it_and_its_exit_code_is_told(
    mark: str, tmp_path: Path
) -> None:
    process = guarded("sleep 1000 & exit 7", mark, tmp_path)
    wait_until_gone(mark)
    assert process.exit_code() == 7
    killed = guarded(f"kill -{signal.SIGKILL} $$", mark, tmp_path)
    wait_until_gone(mark)
    assert killed.exit_code() == 128 + signal.SIGKILL
    process.close()
    killed.close()
