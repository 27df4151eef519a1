"""The contract: no process outlives the command that started it."""

import pytest

from sandbox.base import Sandbox
from sandbox.errors import End
from tests.sandbox.contract import HOG, sh

BEAT = "while true; do echo >> /tmp/beat; sleep 0.02; done"


def beats(sandbox: Sandbox) -> bool:
    """Whether something still writes the file that `BEAT` writes."""
    result = sh(sandbox, "wc -c < /tmp/beat; sleep 0.5; wc -c < /tmp/beat")
    first, second = result.stdout.split()
    return first != second


def test_files_persist_between_commands_and_processes_do_not(sandbox: Sandbox) -> None:
    sh(sandbox, "echo kept > file; sleep 300 & setsid sleep 300 & sleep 0.1")
    assert sh(sandbox, "cat file").stdout == b"kept\n"
    assert b"sleep" not in sh(sandbox, "cat /proc/[0-9]*/comm").stdout


def test_a_background_process_does_not_hold_the_command_open(sandbox: Sandbox) -> None:
    result = sh(sandbox, "sleep 15 & echo done")
    assert result.stdout == b"done\n"
    assert result.duration_s < 10


def test_a_detached_child_is_dead_when_its_command_returns(sandbox: Sandbox) -> None:
    sh(sandbox, f"(setsid bash -c 'trap \"\" TERM HUP INT; {BEAT}' &); sleep 0.5")
    assert not beats(sandbox)


def test_a_timeout_ends_the_whole_tree(sandbox: Sandbox) -> None:
    result = sh(sandbox, f"(setsid bash -c '{BEAT}' &); bash -c 'sleep 60'; echo no", timeout_s=1.5)
    assert (result.end, result.stdout) == (End.TIMEOUT, b"")
    assert not beats(sandbox)


def test_the_output_limit_ends_the_whole_tree(sandbox: Sandbox) -> None:
    argv = ["bash", "-c", f"(setsid bash -c '{BEAT}' &); sleep 0.5; yes"]
    assert sandbox.exec(argv, timeout_s=30, max_output_bytes=1000).end is End.OUTPUT_LIMIT
    assert not beats(sandbox)


def test_a_child_that_ignores_every_signal_dies_with_its_command(sandbox: Sandbox) -> None:
    script = "import signal, time\n"
    script += "for n in range(1, 65):\n"
    script += "    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
    script += "print('deaf', flush=True); time.sleep(60)"
    result = sandbox.exec(["python3", "-c", script], timeout_s=2)
    assert (result.end, result.stdout) == (End.TIMEOUT, b"deaf\n")
    assert b"python3" not in sh(sandbox, "cat /proc/[0-9]*/comm").stdout


def test_a_command_that_stops_itself_ends_by_its_deadline(sandbox: Sandbox) -> None:
    result = sh(sandbox, "kill -STOP $$", timeout_s=1.5)
    assert result.end in (End.TIMEOUT, End.EXITED), "a backend may refuse the signal"
    assert sh(sandbox, "echo here").stdout == b"here\n"


def test_output_of_children_that_end_first_is_kept(sandbox: Sandbox) -> None:
    script = "(sleep 0.3; echo child) & (sleep 0.1; echo other >&2) & wait; echo parent"
    result = sh(sandbox, script)
    assert (result.stdout, result.stderr) == (b"child\nparent\n", b"other\n")


def test_a_command_may_kill_all_it_can_and_harms_itself_alone(sandbox: Sandbox) -> None:
    sh(sandbox, "kill -9 -1; kill -9 1; kill -TERM -1")
    assert sh(sandbox, "echo here").stdout == b"here\n"


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("sleep 60", End.TIMEOUT),
        ("yes", End.OUTPUT_LIMIT),
        (HOG, End.OOM),
        ("bomb() { bomb | bomb & }; bomb; sleep 60", End.TIMEOUT),
    ],
    ids=["timeout", "flood", "memory", "fork bomb"],
)
def test_a_sandbox_is_as_good_as_new_after_a_bad_end(
    sandbox: Sandbox, script: str, end: End
) -> None:
    assert sh(sandbox, script, timeout_s=60 if end is End.OOM else 3).end is end
    assert sh(sandbox, "echo here; ls").stdout == b"here\ncalc.py\n"
    assert sandbox.diff() == b""
