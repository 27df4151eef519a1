"""The contract: what a command gets, and what comes back of it."""

import os

import pytest

from sandbox.base import Backend, Sandbox, SandboxSpec
from sandbox.errors import End
from tests.sandbox.contract import opened, sh


def test_streams_and_exit_code_are_told_apart(sandbox: Sandbox) -> None:
    result = sh(sandbox, "echo out; echo err >&2; exit 7")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
    assert (result.end, result.exit_code, result.ok) == (End.EXITED, 7, False)


def test_a_signal_gives_128_plus_its_number(sandbox: Sandbox) -> None:
    assert sh(sandbox, "kill -TERM $$").exit_code == 143


def test_a_command_that_does_not_exist_is_a_result(sandbox: Sandbox) -> None:
    result = sandbox.exec(["no-such-command"], timeout_s=20)
    assert (result.end, result.exit_code) == (End.EXITED, 127)


def test_a_folder_that_does_not_exist_is_a_failed_command(sandbox: Sandbox) -> None:
    result = sandbox.exec(["true"], cwd="/no/such/folder", timeout_s=20)
    assert result.end is End.EXITED
    assert result.exit_code not in (0, None)


def test_arguments_reach_the_command_unaltered(sandbox: Sandbox) -> None:
    odd = [
        "",
        " ",
        "a b",
        "'",
        '"',
        "$HOME",
        "`id`",
        "*",
        "\n",
        "\\",
        "-n",
        "--",
        "caf\u00e9 \u2603",
    ]
    result = sandbox.exec(["printf", "%s\\0", *odd], timeout_s=20)
    assert result.stdout.decode().split("\0")[:-1] == odd


def test_an_argument_of_100_kilobytes_is_taken(sandbox: Sandbox) -> None:
    result = sandbox.exec(["bash", "-c", "echo ${#1}", "bash", "x" * 100_000], timeout_s=20)
    assert result.stdout == b"100000\n"


def test_output_bytes_come_back_unaltered(sandbox: Sandbox) -> None:
    script = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 500)"
    assert sandbox.exec(["python3", "-c", script], timeout_s=20).stdout == bytes(range(256)) * 500


def test_all_output_of_a_quick_writer_arrives(sandbox: Sandbox) -> None:
    script = "for n in $(seq 20000); do echo $n; echo $n >&2; done"
    result = sh(sandbox, script, timeout_s=60)
    expected = b"".join(b"%d\n" % n for n in range(1, 20001))
    assert (result.stdout, result.stderr) == (expected, expected)


def test_the_last_output_is_never_lost(sandbox: Sandbox) -> None:
    for n in range(12):
        script = f"sleep 0.2{n}; echo last"
        assert sh(sandbox, script).stdout == b"last\n"


def test_input_reaches_the_command_whole(sandbox: Sandbox) -> None:
    assert (
        sandbox.exec(["wc", "-c"], stdin=b"x" * 2_000_000, timeout_s=20).stdout.strip()
        == b"2000000"
    )


def test_a_command_without_input_reads_an_empty_one(sandbox: Sandbox) -> None:
    assert sandbox.exec(["cat"], timeout_s=20).stdout == b""


def test_input_that_nobody_reads_does_not_block(sandbox: Sandbox) -> None:
    assert sandbox.exec(["true"], stdin=b"x" * 2_000_000, timeout_s=20).ok


def test_input_and_output_of_megabytes_flow_at_once(sandbox: Sandbox) -> None:
    data = os.urandom(3_000_000)
    result = sandbox.exec(["cat"], stdin=data, timeout_s=60, max_output_bytes=4_000_000)
    assert result.stdout == data


def test_environment_and_folder_are_what_was_asked_for(sandbox: Sandbox) -> None:
    result = sandbox.exec(
        ["sh", "-c", "pwd; echo $COLOUR"], cwd="/tmp", env={"COLOUR": "red"}, timeout_s=20
    )
    assert result.stdout == b"/tmp\nred\n"
    assert sh(sandbox, "pwd; id -u; echo $HOME").stdout == b"/testbed\n1000\n/home/agent\n"


def test_variables_of_the_specification_reach_every_command(
    backend: Backend, spec: SandboxSpec
) -> None:
    with opened(backend, spec, env={"FRUIT": "pear"}) as sandbox:
        assert sh(sandbox, "echo $FRUIT").stdout == b"pear\n"
        own = sandbox.exec(["sh", "-c", "echo $FRUIT"], env={"FRUIT": "fig"}, timeout_s=20)
        assert own.stdout == b"fig\n"
        assert sh(sandbox, "echo $FRUIT").stdout == b"pear\n"


def test_nothing_of_our_own_environment_is_inside(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_TOKEN", "host-secret-5512")
    result = sh(sandbox, "env; cat /proc/*/environ")
    assert b"host-secret" not in result.stdout


def test_a_variable_that_one_command_sets_is_unknown_to_the_next(sandbox: Sandbox) -> None:
    sh(sandbox, "export SEEN=yes; cd /tmp")
    assert sh(sandbox, "echo -$SEEN-; pwd").stdout == b"--\n/testbed\n"


def test_a_command_has_no_terminal(sandbox: Sandbox) -> None:
    assert sh(sandbox, "test -t 0 || test -t 1 || test -t 2; echo $?").stdout == b"1\n"
    assert sh(sandbox, "echo x > /dev/tty").exit_code != 0


def test_the_time_is_that_of_the_command(sandbox: Sandbox) -> None:
    assert 1.0 <= sh(sandbox, "sleep 1").duration_s < 5


def test_a_command_that_closes_its_streams_is_awaited(sandbox: Sandbox) -> None:
    result = sh(sandbox, "echo out; exec >&- 2>&-; sleep 1; exit 5")
    assert (result.end, result.exit_code, result.stdout) == (End.EXITED, 5, b"out\n")
