"""The shell that supervises a command in a pod, run in a pid namespace of its own instead of a pod.

Its input is never closed, as that of version 4 of the exec protocol is not.
"""

import os
import subprocess
import threading
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from sandbox.base import User
from sandbox.kubernetes.supervisor import TRAILER_BYTES, Trailer, read_trailer, supervised

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

TOKEN = "0123456789abcdef" * 2
CONTAINER = [
    "unshare",
    "-fp",
    "--mount-proc",
    "sh",
    "-c",
    'exec 5<&0; "$@" <&5 5<&- & wait $!',
    "sh",
]
"""The first process of a pid namespace, which waits for the supervisor as a container's would."""
ENV = {"PATH": "/usr/bin:/bin", "COLOUR": "red"}


class Ran(NamedTuple):
    stdout: bytes
    stderr: bytes
    trailer: Trailer | None


def run(argv: Sequence[str], stdin: bytes | None = None, *, user: User = "agent") -> Ran:
    size = None if stdin is None else len(stdin)
    words = supervised(argv, stdin_bytes=size, cwd="/tmp", env=ENV, user=user)
    pipe = subprocess.PIPE
    with subprocess.Popen([*CONTAINER, *words], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        feeder = threading.Thread(target=feed, args=(process.stdin.fileno(), stdin or b""))
        feeder.start()
        stdout, stderr = process.stdout.read(), process.stderr.read()
        feeder.join()
    found = {read_trailer(stream, TOKEN) for stream in (stdout, stderr)}
    assert len(found) == 1
    return Ran(stdout[:-TRAILER_BYTES], stderr[:-TRAILER_BYTES], found.pop())


def feed(fd: int, data: bytes) -> None:
    left = memoryview(TOKEN.encode() + b"\n" + data)
    try:
        while left:
            left = left[os.write(fd, left) :]
    except BrokenPipeError:
        return


def test_both_streams_end_in_the_exit_code() -> None:
    ran = run(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert ran == (b"out\n", b"err\n", Trailer(exit_code=7, oom_kills=0))


def test_input_ends_where_it_was_said_to_and_none_is_an_empty_one() -> None:
    assert run(["wc", "-c"], b"x" * 2_000_000).stdout == b"2000000\n"
    assert run(["cat"], b"").stdout == b""
    assert run(["cat"]).stdout == b""


def test_input_that_nobody_reads_holds_nothing_up() -> None:
    ran = run(["sh", "-c", "exec <&-; sleep 0.2; exit 3"], b"x" * 2_000_000)
    assert ran.trailer == Trailer(exit_code=3, oom_kills=0)


def test_children_that_hold_the_streams_die_with_the_command() -> None:
    ran = run(["sh", "-c", "sleep 60 & setsid sleep 60 & trap '' TERM; echo done"])
    assert (ran.stdout, ran.trailer) == (b"done\n", Trailer(exit_code=0, oom_kills=0))


def test_a_signal_is_an_exit_code_and_nothing_is_said_of_it_in_the_commands_streams() -> None:
    assert run(["sh", "-c", "kill -9 $$"]) == (b"", b"", Trailer(137, 0))
    assert run(["sh", "-c", "kill -SEGV $$"]) == (b"", b"", Trailer(139, 0))


def test_the_command_has_what_it_was_given_and_no_more() -> None:
    script = "id -u; pwd; env | grep -v PWD | sort | tr '\\n' ' '; ls /proc/self/fd | tr '\\n' ' '"
    assert run(["sh", "-c", script]).stdout == (
        b"1000\n/tmp\nCOLOUR=red PATH=/usr/bin:/bin 0 1 2 3 "
    )


@pytest.mark.parametrize("user", ["agent", "root"])
def test_the_command_has_no_capability_and_can_gain_none(user: User) -> None:
    status = run(["cat", "/proc/self/status"], user=user).stdout.decode()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert (fields["NoNewPrivs"], fields["Groups"].strip()) == ("1", "")


def test_the_agent_can_neither_read_the_word_nor_end_its_supervisor() -> None:
    script = (
        "cat /proc/*/cmdline /proc/*/environ 2>/dev/null | grep -c 0123456789[a]bcdef; "
        "kill -9 -1; kill -9 $PPID; echo ::000:0000000009; echo ::000:0000000009 >&2; exit 5"
    )
    ran = run(["bash", "-c", script])
    assert ran.stdout.startswith(b"0\n")
    assert ran.trailer == Trailer(exit_code=5, oom_kills=0)


def test_a_variable_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="-u"):
        supervised(["true"], stdin_bytes=None, cwd="/", env={"-u": "x"}, user="agent")
