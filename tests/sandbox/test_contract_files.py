"""The contract: reading and writing one file."""

import time
from dataclasses import replace

import pytest

from sandbox.base import Backend, Sandbox, SandboxSpec
from sandbox.errors import SandboxPathError
from tests.sandbox.contract import opened, sh


def test_read_and_write_round_trip(sandbox: Sandbox) -> None:
    data = bytes(range(256)) * 1000
    sandbox.write("/testbed/deep/er/file.bin", data, mode=0o600)
    assert sandbox.read("/testbed/deep/er/file.bin", len(data)) == data
    assert sh(sandbox, "stat -c %a:%u deep/er/file.bin").stdout == b"600:1000\n"
    sandbox.write("/testbed/empty", b"")
    assert sandbox.read("/testbed/empty", 10) == b""


def test_a_file_of_megabytes_is_written_and_read_whole(sandbox: Sandbox) -> None:
    data = bytes(range(256)) * 20_000
    sandbox.write("/testbed/large.bin", data)
    assert sandbox.read("/testbed/large.bin", len(data)) == data


@pytest.mark.parametrize(
    "name", ["a b", "it's", 'say "hi"', "$HOME", "-n", "*", "caf\u00e9", "new\nline"]
)
def test_a_file_of_any_name_can_be_written_and_read(sandbox: Sandbox, name: str) -> None:
    sandbox.write(f"/testbed/{name}", b"here")
    assert sandbox.read(f"/testbed/{name}", 10) == b"here"
    assert name in sh(sandbox, "ls -A --quoting-style=literal").stdout.decode()


def test_read_refuses_links_folders_absent_and_large_files(sandbox: Sandbox) -> None:
    sh(sandbox, "ln -s /etc/passwd link; head -c 1000 /dev/zero > large")
    for path in ("/testbed/link", "/testbed", "/testbed/absent"):
        with pytest.raises(SandboxPathError, match=path):
            sandbox.read(path, 1000)
    with pytest.raises(SandboxPathError, match="limit_bytes=999"):
        sandbox.read("/testbed/large", 999)


def test_read_waits_for_no_pipe_and_no_device(sandbox: Sandbox) -> None:
    sh(sandbox, "mkfifo pipe")
    began = time.monotonic()
    for path in ("/testbed/pipe", "/dev/zero"):
        with pytest.raises(SandboxPathError, match="not a regular file"):
            sandbox.read(path, 100)
    assert time.monotonic() - began < 10


def test_a_file_that_the_agent_may_not_read_is_refused(sandbox: Sandbox) -> None:
    sandbox.write("/testbed/closed", b"x", mode=0)
    with pytest.raises(SandboxPathError, match="closed"):
        sandbox.read("/testbed/closed", 100)


def test_write_replaces_a_link_instead_of_following_it(sandbox: Sandbox) -> None:
    sh(sandbox, "echo old > target; ln -s target link")
    sandbox.write("/testbed/link", b"new")
    assert sandbox.read("/testbed/target", 10) == b"old\n"


def test_write_to_a_read_only_place_raises(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxPathError, match="/proc/x"):
        sandbox.write("/proc/x", b"")


def test_a_write_that_fails_leaves_what_was_there(sandbox: Sandbox) -> None:
    sandbox.write("/testbed/kept", b"old")
    sh(sandbox, "cat /dev/zero > fill")
    with pytest.raises(SandboxPathError, match="kept"):
        sandbox.write("/testbed/kept", b"new" * 100_000)
    assert sandbox.read("/testbed/kept", 100) == b"old"
    assert b".write-" not in sh(sandbox, "ls -A").stdout


def test_the_repositorys_files_are_the_agents_own(backend: Backend, spec: SandboxSpec) -> None:
    tree = {"calc.py": b"x", "deep/er/file.bin": bytes(range(256)), "empty": b""}
    with opened(backend, spec, files=tree) as sandbox:
        listing = sh(sandbox, "find . -path ./.git -prune -o -type f -printf '%P %m %U\\n' | sort")
        assert listing.stdout == b"calc.py 644 1000\ndeep/er/file.bin 644 1000\nempty 644 1000\n"
        assert sandbox.read("/testbed/deep/er/file.bin", 256) == bytes(range(256))


def test_a_file_outside_the_repository_is_refused(backend: Backend, spec: SandboxSpec) -> None:
    for name in ("../up", "/etc/passwd", "a/../../up"):
        with pytest.raises(ValueError, match="relative"):
            backend.create(replace(spec, files={name: b""}))
