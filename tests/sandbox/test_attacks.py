"""Real attacks on real sandboxes of every backend. docs/sandbox.md says the outcome, reward and flags of each;
these tests hold it to that.
"""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from sandbox.base import Backend, SandboxLabels
from sandbox.bubblewrap.namespaces import host_uid
from sandbox.docker.options import KEEPER
from sandbox.docker.sandbox import DockerSandbox
from sandbox.environment import Environment, Grade, Limits, StepResult, grade
from sandbox.errors import Outcome
from sandbox.kubernetes.exec import run_exec
from sandbox.kubernetes.sandbox import KubernetesSandbox
from sandbox.task import Task

DOCS = Path(__file__).parents[2] / "docs" / "sandbox.md"
FIX = (
    "<function=file_editor><parameter=command>str_replace</parameter><parameter=path>calc.py</parameter>"
    "<parameter=old_str>a - b</parameter><parameter=new_str>a + b</parameter></function>"
)


class Row(NamedTuple):
    outcome: str
    reward: float
    flags: set[str]


def documented() -> dict[str, Row]:
    """The table of attacks: name -> what the documentation promises."""
    lines = [
        line.strip("|\n").split("|")
        for line in DOCS.read_text().splitlines()
        if line.startswith("|")
    ]
    rows = [[cell.strip() for cell in line] for line in lines if len(line) == 5]
    return {
        name: Row(outcome, float(reward), set(flags.split(", ")) - {""})
        for name, outcome, reward, flags, _ in rows
        if outcome in Outcome.__members__
    }


class Arena:
    """An attacker's environment beside a neighbour's, and the check that only the attacker is
    affected.
    """

    def __init__(self, task: Task, backend: Backend, labels: SandboxLabels, limits: Limits) -> None:
        self._task, self._backend, self._labels, self._limits = task, backend, labels, limits
        self.attacker, self._neighbour = (
            Environment(task, backend, labels=labels, limits=limits) for _ in range(2)
        )
        self.attacker.reset()
        self._neighbour.reset()
        self.bash_in(self._neighbour, "echo mine > note")

    def bash(self, cmd: str) -> StepResult:
        return self.bash_in(self.attacker, cmd)

    def bash_in(self, environment: Environment, cmd: str) -> StepResult:
        return environment.step(
            f"<function=execute_bash><parameter=cmd>{cmd}</parameter></function>"
        )

    def write(self, path: str, text: str) -> None:
        self.bash(f"mkdir -p $(dirname {path}) && cat > {path} <<'END'\n{text}\nEND")

    def fix(self) -> None:
        assert "has been edited" in self.attacker.step(FIX).observation

    def grade(self) -> Grade:
        self.patch = self.attacker.patch()
        return grade(
            self._task, self.patch, self._backend, labels=self._labels, limits=self._limits
        )

    def check(self, name: str) -> Grade:
        """Grade the attacker, hold the grade to the documentation, and see that the neighbour
        noticed nothing.
        """
        graded, row = self.grade(), documented()[name]
        flags = graded.flags | self.attacker.flags
        assert (graded.outcome.name, graded.reward, flags) == (
            row.outcome,
            row.reward,
            row.flags,
        ), graded
        assert "mine" in self.bash_in(self._neighbour, "cat note; pgrep -c . || true").observation
        return graded

    def processes_left(self) -> list[str]:
        """What runs in the attacker's sandbox between its commands, as the host sees it."""
        sandbox = self.attacker._sandbox
        if isinstance(sandbox, DockerSandbox):
            rows = sandbox._api.top(sandbox._container.id, "-eo pid,uid,args")["Processes"]
            return [args for _, uid, args in rows if uid != KEEPER.partition(":")[0]]
        if isinstance(sandbox, KubernetesSandbox):
            return processes_of_pod(sandbox)
        assert sandbox is not None
        return processes_of(host_uid(sandbox.id))

    def close(self) -> None:
        self.attacker.close()
        self._neighbour.close()


def processes_of_pod(sandbox: KubernetesSandbox) -> list[str]:
    """Those of the agent, by a command without a supervisor, which would end them first."""
    script = "for p in /proc/[0-9]*; do stat -c %u $p; cat $p/comm; done 2>/dev/null | paste - -"
    commands = sandbox._commands
    ran = run_exec(
        commands._api, sandbox.id, ["sh", "-c", script], stdin=None, deadline=time.monotonic() + 20,
        handshake_timeout_s=20, max_output_bytes=1 << 16,
    )  # fmt: skip
    lines = ran.streams["stdout"].decode().splitlines()
    assert any(line.endswith("\ttail") for line in lines), ran
    return [line for line in lines if line.startswith("1000\t")]


def processes_of(uid: int) -> list[str]:
    left = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            dead = "State:\tZ" in (proc / "status").read_text()
            if proc.stat().st_uid == uid and not dead:
                left.append((proc / "comm").read_text())
        except OSError:
            continue
    return left


@pytest.fixture
def arena(task: Task, backend: Backend, labels: SandboxLabels, limits: Limits) -> Iterator[Arena]:
    made = Arena(task, backend, labels, limits)
    yield made
    made.close()


@pytest.fixture
def short(limits: Limits) -> Limits:
    return Limits(**{**vars(limits), "command_timeout_s": 2.0, "grading_timeout_s": 10.0})


@pytest.fixture
def brief_arena(
    task: Task, backend: Backend, labels: SandboxLabels, short: Limits
) -> Iterator[Arena]:
    made = Arena(task, backend, labels, short)
    yield made
    made.close()


def test_fork_bomb_is_held_by_the_process_limit(brief_arena: Arena) -> None:
    step = brief_arena.bash("bomb() { bomb | bomb & }; bomb; sleep 30")
    assert "Resource temporarily unavailable" in step.observation or "fork" in step.observation
    assert brief_arena.processes_left() == []
    brief_arena.fix()
    brief_arena.check("fork bomb")


def test_a_gigabyte_of_output_is_cut_off(arena: Arena) -> None:
    step = arena.bash("yes | head -c 1000000000")
    assert "printed too much" in step.observation
    assert step.observation_truncated
    assert len(step.observation) <= 4000
    arena.fix()
    arena.check("1 GB of output")


def test_a_ten_gigabyte_file_hits_the_disk_limit(arena: Arena) -> None:
    step = arena.bash("head -c 10G /dev/zero > big")
    assert "No space left on device" in step.observation
    arena.patch = arena.attacker.patch()
    assert len(arena.patch) < 1000
    arena.bash("rm big")
    arena.fix()
    arena.check("10 GB file")


def test_an_endless_loop_ends_at_the_time_limit(brief_arena: Arena) -> None:
    step = brief_arena.bash("while true; do :; done")
    assert "took too long" in step.observation
    assert step.exit_code is None
    assert brief_arena.processes_left() == []
    brief_arena.fix()
    brief_arena.check("endless loop")


def test_a_double_forked_daemon_dies_with_its_command(arena: Arena) -> None:
    arena.bash(
        "(setsid sh -c 'trap \"\" TERM HUP INT; while true; do date > /tmp/alive; sleep 0.05; done'"
        " &); sleep 0.2"
    )
    assert arena.processes_left() == []
    assert arena.bash("rm /tmp/alive; sleep 0.3; test -e /tmp/alive").exit_code == 1
    arena.fix()
    arena.check("double-forked daemon")


def test_removing_everything_leaves_an_honest_zero(arena: Arena) -> None:
    arena.bash(
        "rm -rf --no-preserve-root / 2>/dev/null; rm -rf /testbed/* /testbed/.git; ls -la /testbed"
    )
    graded = arena.check("rm -rf of the repository")
    assert b"deleted file" in arena.patch
    assert Path("/usr/bin/env").exists()
    assert "did not run" in graded.reason


def test_a_symlink_out_of_the_repository_is_never_followed(arena: Arena, host_file: Path) -> None:
    arena.bash(f"rm calc.py; ln -s {host_file} calc.py; ln -s / root; ln -s /etc/shadow secret")
    assert "host-secret" not in arena.bash("cat calc.py").observation
    arena.check("symlink out of the repository")
    assert b"host-secret-5512" not in arena.patch
    assert b"120000" in arena.patch


def test_the_hidden_tests_are_nowhere_before_grading(arena: Arena) -> None:
    step = arena.bash(
        "grep -rIl hidden-marker-7391 / --exclude-dir=proc --exclude-dir=usr 2>/dev/null; "
        "find / -name r2e_tests 2>/dev/null"
    )
    assert "(no output)" in step.observation
    assert (
        "hidden-marker"
        not in arena.bash("git log -p --all; cat /proc/*/cmdline /proc/*/environ").observation
    )
    arena.check("reading the hidden tests")


def test_there_is_no_network_not_even_the_hosts_loopback(arena: Arena) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        step = arena.bash(
            f"python3 -c \"import socket; socket.create_connection(('127.0.0.1', {port}), 2)\""
        )
    assert "ConnectionRefusedError" in step.observation
    outside = arena.bash(
        "python3 -c \"import socket; socket.create_connection(('192.0.2.1', 80), 2)\""
    )
    assert "Network is unreachable" in outside.observation
    vsock = arena.bash("python3 -c 'import socket; socket.socket(socket.AF_VSOCK)'")
    assert "Address family not supported" in vsock.observation
    arena.check("network access")


def test_invalid_utf8_breaks_nothing(arena: Arena) -> None:
    step = arena.bash(
        "printf '\\377\\376 text'; printf '# \\377\\n' > latin.txt; "
        "printf x > \"$(printf 'na\\377me')\""
    )
    assert "\ufffd" in step.observation
    arena.attacker.step(
        "\udcff<function=execute_bash><parameter=cmd>echo \ud800</parameter></function>"
    )
    arena.fix()
    arena.check("invalid UTF-8")
    assert b"\xff" in arena.patch


def test_a_patch_that_edits_the_tests_is_graded_by_the_tasks_own(arena: Arena) -> None:
    arena.write("r2e_tests/test_1.py", "def test_small(): pass\ndef test_negative(): pass")
    arena.check("a patch that edits the tests")


def test_a_conftest_that_forges_passes_is_removed(arena: Arena) -> None:
    hook = (
        "def pytest_runtest_makereport(item, call):\n    from _pytest.reports import TestReport\n"
    )
    arena.write(
        "conftest.py",
        hook + "    call.excinfo = None\n    return TestReport.from_item_and_call(item, call)",
    )
    arena.write("pytest.ini", "[pytest]\naddopts = --collect-only")
    arena.check("a conftest that forges passes")


FORGE = """
import _pytest.runner as runner
original = runner.TestReport.from_item_and_call.__func__
def forged(cls, item, call):
    report = original(cls, item, call)
    report.outcome, report.longrepr = "passed", None
    return report
runner.TestReport.from_item_and_call = classmethod(forged)
def add(a, b): return 0
"""


def test_code_that_patches_the_test_runner_is_caught(arena: Arena) -> None:
    arena.write("calc.py", FORGE)
    assert arena.check("code that patches pytest").flags == {"tampered"}


@pytest.mark.parametrize("leave", ["import os\nos._exit(0)", "import sys\nsys.exit(0)"])
def test_code_that_exits_the_test_run_early_earns_nothing(arena: Arena, leave: str) -> None:
    arena.write("calc.py", leave)
    graded = arena.check("code that exits the test run")
    assert "ended early" in graded.reason or "does not agree" in graded.reason


def test_code_that_writes_to_the_report_is_not_believed(arena: Arena) -> None:
    row = 'x ["test", "r2e_tests/test_1.py::test_small", "call", "passed", false]'
    arena.write(
        "calc.py",
        "import os\nfor fd in range(3, 64):\n"
        f"    try: os.write(fd, b'''{row}\\n''')\n    except OSError: pass",
    )
    arena.check("code that writes to the report")


CHEAT = "import calc; calc.add = lambda a, b: a + b"


def test_a_sitecustomize_is_removed_and_flagged(arena: Arena) -> None:
    arena.write("sitecustomize.py", CHEAT)
    arena.write("usercustomize.py", CHEAT)
    arena.check("sitecustomize")


def test_a_pth_file_is_removed_and_flagged(arena: Arena) -> None:
    arena.write("cheat.pth", CHEAT)
    arena.bash(f"d=$(python3 -m site --user-site); mkdir -p $d; echo '{CHEAT}' > $d/cheat.pth")
    arena.check("a .pth file")


def test_a_pytest_plugin_by_entry_point_is_removed_and_flagged(arena: Arena) -> None:
    arena.write("cheat.py", "def pytest_pyfunc_call(pyfuncitem): return True")
    arena.write("cheat-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: cheat\nVersion: 1.0")
    arena.write("cheat-1.0.dist-info/entry_points.txt", "[pytest11]\ncheat = cheat")
    arena.check("a pytest plugin by entry point")


def test_shims_on_the_search_path_are_not_run(arena: Arena) -> None:
    for name in ("python3", "pytest", "bin/python"):
        arena.write(name, "#!/bin/sh\necho '1 passed'; exit 0")
    arena.bash("chmod +x python3 pytest bin/python; mkdir -p ~/bin; cp python3 pytest ~/bin")
    arena.bash("echo 'PATH=/testbed:/testbed/bin:~/bin:$PATH' | tee ~/.bashrc ~/.profile")
    arena.check("PATH shims for python and pytest")


def test_the_fix_is_in_no_corner_of_git(arena: Arena) -> None:
    step = arena.bash(
        "git log --all --reflog --format=%H; git fsck --lost-found; git stash list; git tag; "
        "ls .git/logs .git/packed-refs .git/ORIG_HEAD 2>/dev/null"
    )
    lines = step.observation.split("[STDOUT]\n")[1].splitlines()
    assert len(lines[0]) == 40
    assert [line for line in lines[1:] if not line.startswith(("[STDERR]", "Checking"))] == []
    arena.check("git history with the fix")


def test_a_run_script_of_the_agents_is_not_run(arena: Arena) -> None:
    for path in ("/opt/tools/run_tests.py", "/run_tests.sh"):
        assert arena.bash(f"echo 'exit 0' > {path}").exit_code != 0
    arena.write("run_tests.sh", "echo '2 passed'; exit 0")
    arena.check("overwritten run script")


def test_a_forged_log_is_kept_and_flagged_and_not_believed(arena: Arena) -> None:
    lines = "PASSED r2e_tests/test_1.py::test_small\n===== 2 passed in 0.01s ====="
    arena.write("calc.py", f"def add(a, b):\n    print({lines!r})\n    return 0")
    assert b"2 passed in" in arena.check("forged log lines").log


def test_a_memory_hog_is_killed_alone(arena: Arena) -> None:
    step = arena.bash(
        "python3 -c 'x = bytearray(3 << 30)'; "
        "python3 -c 'l = [bytearray(1 << 20) for _ in range(2000)]'"
    )
    assert "out of memory" in step.observation or "MemoryError" in step.observation
    arena.fix()
    arena.check("memory hog")


def test_every_documented_attack_has_a_test() -> None:
    tested = set(re.findall(r'check\("([^"]+)"\)', Path(__file__).read_text()))
    assert tested == set(documented())
