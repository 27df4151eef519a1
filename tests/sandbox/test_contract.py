"""What every backend promises, the same tests for each; known differences are named here only."""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sandbox.base import Backend, ExecResult, Sandbox, SandboxSpec, load_backend
from sandbox.bubblewrap import BubblewrapBackend
from sandbox.docker import SOCKET
from sandbox.errors import End, SandboxError, SandboxPathError, SandboxUnavailable


@pytest.fixture(
    scope="session",
    params=[
        "bubblewrap",
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("kubernetes", marks=pytest.mark.k8s),
    ],
)
def backend(request: pytest.FixtureRequest, bubblewrap: BubblewrapBackend) -> Iterator[Backend]:
    if request.param == "bubblewrap":
        yield bubblewrap
        return
    if request.param == "kubernetes":
        options = request.getfixturevalue("kubernetes_options")
        cluster = load_backend("kubernetes", **options)
        yield cluster
        cluster.close()
        return
    made = load_backend("docker", base_url=os.environ.get("DOCKER_HOST", SOCKET))
    try:
        made.reap()
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    yield made


@pytest.fixture
def sandbox(backend: Backend, spec: SandboxSpec) -> Iterator[Sandbox]:
    made = backend.create(spec)
    yield made
    made.close()


def sh(sandbox: Sandbox, script: str, timeout_s: float = 20) -> ExecResult:
    return sandbox.exec(["bash", "-c", script], timeout_s=timeout_s)


def test_streams_and_exit_code_are_told_apart(sandbox: Sandbox) -> None:
    result = sh(sandbox, "echo out; echo err >&2; exit 7")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
    assert (result.end, result.exit_code, result.ok) == (End.EXITED, 7, False)


def test_a_signal_gives_128_plus_its_number(sandbox: Sandbox) -> None:
    assert sh(sandbox, "kill -TERM $$").exit_code == 143


def test_a_command_that_does_not_exist_is_a_result(sandbox: Sandbox) -> None:
    result = sandbox.exec(["no-such-command"], timeout_s=20)
    assert (result.end, result.exit_code) == (End.EXITED, 127)


def test_input_reaches_the_command_whole(sandbox: Sandbox) -> None:
    assert (
        sandbox.exec(["wc", "-c"], stdin=b"x" * 2_000_000, timeout_s=20).stdout.strip()
        == b"2000000"
    )


def test_a_command_without_input_reads_an_empty_one(sandbox: Sandbox) -> None:
    assert sandbox.exec(["cat"], timeout_s=20).stdout == b""


def test_input_that_nobody_reads_does_not_block(sandbox: Sandbox) -> None:
    assert sandbox.exec(["true"], stdin=b"x" * 2_000_000, timeout_s=20).ok


def test_environment_and_folder_are_what_was_asked_for(sandbox: Sandbox) -> None:
    result = sandbox.exec(
        ["sh", "-c", "pwd; echo $COLOUR"], cwd="/tmp", env={"COLOUR": "red"}, timeout_s=20
    )
    assert result.stdout == b"/tmp\nred\n"
    assert sh(sandbox, "pwd; id -u; echo $HOME").stdout == b"/testbed\n1000\n/home/agent\n"


def test_files_persist_between_commands_and_processes_do_not(sandbox: Sandbox) -> None:
    sh(sandbox, "echo kept > file; sleep 300 & setsid sleep 300 & sleep 0.1")
    assert sh(sandbox, "cat file").stdout == b"kept\n"
    assert b"sleep" not in sh(sandbox, "cat /proc/[0-9]*/comm").stdout


def test_a_background_process_does_not_hold_the_command_open(sandbox: Sandbox) -> None:
    result = sh(sandbox, "sleep 15 & echo done")
    assert result.stdout == b"done\n"
    assert result.duration_s < 10


def test_timeout_keeps_the_output_so_far(sandbox: Sandbox) -> None:
    result = sh(sandbox, "echo early; sleep 60", timeout_s=1.5)
    assert (result.end, result.exit_code, result.stdout) == (End.TIMEOUT, None, b"early\n")
    assert result.duration_s < 10


def test_output_is_capped_and_flagged(sandbox: Sandbox) -> None:
    result = sandbox.exec(["yes"], timeout_s=30, max_output_bytes=10_000)
    assert (result.end, len(result.stdout), result.stdout_truncated) == (
        End.OUTPUT_LIMIT,
        10_000,
        True,
    )
    result = sandbox.exec(["sh", "-c", "yes >&2"], timeout_s=30, max_output_bytes=10_000)
    assert (result.end, result.stderr_truncated, result.stdout_truncated) == (
        End.OUTPUT_LIMIT,
        True,
        False,
    )


def test_output_of_exactly_the_cap_is_whole(sandbox: Sandbox) -> None:
    result = sandbox.exec(["head", "-c", "5000", "/dev/zero"], timeout_s=20, max_output_bytes=5000)
    assert (result.end, len(result.stdout), result.stdout_truncated) == (End.EXITED, 5000, False)


def test_running_out_of_memory_is_told_apart_from_a_kill(sandbox: Sandbox) -> None:
    hog = "l = []\nwhile True: l.append(bytearray(1 << 20))"
    assert sandbox.exec(["python3", "-c", hog], timeout_s=60).end is End.OOM
    assert sh(sandbox, "kill -9 $$").exit_code == 137


def test_processes_are_limited(sandbox: Sandbox) -> None:
    fork = "  for n in range(500): os.fork() or time.sleep(60)"
    script = f"import os, time\ntry:\n{fork}\nexcept OSError: print(n)"
    result = sandbox.exec(["python3", "-c", script], timeout_s=20)
    assert 10 < int(result.stdout) < 60


def test_read_and_write_round_trip(sandbox: Sandbox) -> None:
    data = bytes(range(256)) * 1000
    sandbox.write("/testbed/deep/er/file.bin", data, mode=0o600)
    assert sandbox.read("/testbed/deep/er/file.bin", len(data)) == data
    assert sh(sandbox, "stat -c %a:%u deep/er/file.bin").stdout == b"600:1000\n"
    sandbox.write("/testbed/empty", b"")
    assert sandbox.read("/testbed/empty", 10) == b""


def test_read_refuses_links_folders_absent_and_large_files(sandbox: Sandbox) -> None:
    sh(sandbox, "ln -s /etc/passwd link; head -c 1000 /dev/zero > large")
    for path in ("/testbed/link", "/testbed", "/testbed/absent"):
        with pytest.raises(SandboxPathError, match=path):
            sandbox.read(path, 1000)
    with pytest.raises(SandboxPathError, match="limit_bytes=999"):
        sandbox.read("/testbed/large", 999)


def test_write_replaces_a_link_instead_of_following_it(sandbox: Sandbox) -> None:
    sh(sandbox, "echo old > target; ln -s target link")
    sandbox.write("/testbed/link", b"new")
    assert sandbox.read("/testbed/target", 10) == b"old\n"


def test_write_to_a_read_only_place_raises(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxPathError, match="/proc/x"):
        sandbox.write("/proc/x", b"")


def test_an_untouched_tree_has_an_empty_diff(sandbox: Sandbox) -> None:
    sh(sandbox, "mkdir -p __pycache__; echo x > __pycache__/a.pyc; touch calc.py")
    assert sandbox.diff() == b""


def test_diff_holds_changed_new_deleted_and_binary_files(sandbox: Sandbox) -> None:
    sandbox.write("/testbed/new.bin", bytes(range(256)))
    sh(sandbox, "rm calc.py; mkdir d; echo 'a b' > 'd/with space.txt'; ln -s nowhere link")
    patch = sandbox.diff()
    for part in (b"deleted file", b"GIT binary patch", b"with space.txt", b"new file mode 120000"):
        assert part in patch


def test_diff_trusts_nothing_of_the_agents_git(sandbox: Sandbox) -> None:
    sh(
        sandbox,
        "echo 'x = 1' > calc.py; git add -A; git commit -qm hidden; "
        "printf '*.py filter=evil diff=evil -text\\n' > .gitattributes; "
        "git config filter.evil.clean 'touch /testbed/pwned; cat'; "
        "git config diff.evil.textconv 'touch /testbed/pwned'; "
        "git config core.fsmonitor 'touch /testbed/pwned'",
    )
    assert b"+x = 1" in sandbox.diff()
    sh(sandbox, "rm -rf .git")
    assert b"+x = 1" in sandbox.diff()
    assert sh(sandbox, "test -e pwned").exit_code == 1


def test_the_agent_has_git_with_one_commit_and_nothing_else(sandbox: Sandbox) -> None:
    assert sh(sandbox, "git status --porcelain; git log --oneline --all | wc -l").stdout == b"1\n"
    assert (
        sh(
            sandbox, "git reflog; git remote; git tag; git stash list; git fsck --unreachable"
        ).stdout
        == b""
    )


def test_the_agent_has_no_privilege(sandbox: Sandbox) -> None:
    status = sh(sandbox, "cat /proc/self/status").stdout.decode()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    assert sh(sandbox, "unshare -U true").exit_code != 0


def test_no_stray_descriptor_is_open_inside(sandbox: Sandbox) -> None:
    assert sh(sandbox, "ls /proc/self/fd").stdout.split() == [b"0", b"1", b"2", b"3"]


def test_sandboxes_do_not_see_each_other(
    backend: Backend, sandbox: Sandbox, spec: SandboxSpec
) -> None:
    other = backend.create(spec)
    try:
        sh(sandbox, "echo mine > /testbed/mine; echo mine > /tmp/mine")
        assert sh(other, "ls /testbed /tmp").stdout.decode().split() == [
            "/testbed:",
            "calc.py",
            "/tmp:",
        ]
        other.close()
        assert sh(sandbox, "cat mine").stdout == b"mine\n"
    finally:
        other.close()


def test_many_threads_each_drive_their_own(backend: Backend, spec: SandboxSpec) -> None:
    found: list[bytes] = []

    def drive(number: int) -> None:
        made = backend.create(spec)
        try:
            found.append(made.exec(["echo", str(number)], timeout_s=60).stdout.strip())
        finally:
            made.close()

    threads = [threading.Thread(target=drive, args=(n,)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(found) == [str(n).encode() for n in range(8)]


def test_close_is_safe_twice_and_ends_use(sandbox: Sandbox) -> None:
    sandbox.close()
    sandbox.close()
    with pytest.raises(SandboxError):
        sandbox.exec(["true"], timeout_s=5)


def test_reap_removes_what_has_expired(backend: Backend, spec: SandboxSpec) -> None:
    expired = backend.create(replace(spec, labels=replace(spec.labels, expires=time.time() - 1)))
    assert expired.id in backend.reap().removed
    expired.close()


def test_an_unknown_image_says_what_to_do(backend: Backend, spec: SandboxSpec) -> None:
    with pytest.raises(SandboxUnavailable, match="no/such-image"):
        backend.create(replace(spec, docker_image="no/such-image:1"))
