"""The contract: time, output, memory, processes, processor and disk are limited."""

from sandbox.base import Backend, Sandbox, SandboxSpec
from sandbox.errors import End
from tests.sandbox.contract import HOG, opened, sh

WRITABLE = "/testbed /tmp /home/agent"


def test_timeout_keeps_the_output_so_far(sandbox: Sandbox) -> None:
    result = sh(sandbox, "echo early; sleep 60", timeout_s=1.5)
    assert (result.end, result.exit_code, result.stdout) == (End.TIMEOUT, None, b"early\n")
    assert result.duration_s < 10


def test_a_deadline_is_kept_to_two_seconds(sandbox: Sandbox) -> None:
    for script in ("sleep 60", "while true; do :; done", "exec >&- 2>&-; sleep 60"):
        result = sh(sandbox, script, timeout_s=1.0)
        assert result.end is End.TIMEOUT
        assert 1.0 <= result.duration_s < 3.0


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


def test_memory_is_that_of_all_processes_together(sandbox: Sandbox) -> None:
    each = "python3 -c 'x = bytearray(80 << 20); import time; time.sleep(3)'"
    script = f'for n in 1 2 3 4; do {each} & p="$p $!"; done; for n in $p; do wait $n || f=1; done'
    assert sh(sandbox, f"{script}; exit $f", timeout_s=60).end is End.OOM


def test_a_command_that_survives_its_childs_lack_of_memory_exits_as_it_likes(
    sandbox: Sandbox,
) -> None:
    result = sh(sandbox, f"{HOG}; exit 0", timeout_s=60)
    assert (result.end, result.exit_code) == (End.EXITED, 0)


def test_processes_are_limited(sandbox: Sandbox) -> None:
    fork = "  for n in range(500): os.fork() or time.sleep(60)"
    script = f"import os, time\ntry:\n{fork}\nexcept OSError: print(n)"
    result = sandbox.exec(["python3", "-c", script], timeout_s=20)
    assert 10 < int(result.stdout) < 60


def test_threads_count_as_processes(sandbox: Sandbox) -> None:
    script = "import threading, time\ntry:\n for n in range(500):\n"
    script += "  threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
    script += "except RuntimeError: print(n, flush=True)\nimport os; os._exit(0)"
    assert 10 < int(sandbox.exec(["python3", "-c", script], timeout_s=20).stdout) < 60


def test_processor_time_is_limited(backend: Backend, spec: SandboxSpec) -> None:
    script = "import time\nbegan = time.monotonic()\nwhile time.monotonic() < began + 2: pass\n"
    script += "print(time.process_time() / (time.monotonic() - began))"
    with opened(backend, spec, cpus=0.25) as sandbox:
        used = float(sandbox.exec(["python3", "-c", script], timeout_s=60).stdout)
    assert used < 0.45


def test_the_disk_limit_holds_for_all_writable_places_together(
    sandbox: Sandbox, spec: SandboxSpec
) -> None:
    script = f"for d in {WRITABLE}; do cat /dev/zero > $d/fill; done; cat $(ls -d "
    script += " ".join(f"{place}/fill" for place in WRITABLE.split()) + ") | wc -c"
    written = int(sh(sandbox, script, timeout_s=60).stdout)
    assert spec.disk_mib / 2 <= written >> 20 <= spec.disk_mib


def test_a_full_disk_is_the_commands_failure_and_the_patch_is_still_made(sandbox: Sandbox) -> None:
    fill = f"for d in {WRITABLE}; do cat /dev/zero > $d/fill; done"
    result = sh(sandbox, f"echo x = 1 > new.py; {fill}; echo more > more", timeout_s=60)
    assert (result.end, result.exit_code) == (End.EXITED, 1)
    assert b"No space left on device" in result.stderr
    assert b"+x = 1" in sandbox.diff()
    assert sh(sandbox, "rm fill; echo room > file && cat file").stdout == b"room\n"


def test_the_number_of_files_is_limited(sandbox: Sandbox) -> None:
    script = "try:\n for n in range(50000): open(f'/tmp/f{n}', 'w').close()\n"
    script += "except OSError as error: print(n, error.strerror)"
    result = sandbox.exec(["python3", "-c", script], timeout_s=60)
    assert b"No space left" in result.stdout


def test_places_outside_the_disk_hold_no_more_than_memory_does(
    sandbox: Sandbox, spec: SandboxSpec
) -> None:
    script = "cat /dev/zero > /dev/shm/fill; stat -c %s /dev/shm/fill"
    result = sh(sandbox, script, timeout_s=60)
    assert result.end in (End.EXITED, End.OOM)
    if result.end is End.EXITED and result.stdout:
        assert int(result.stdout) >> 20 <= spec.memory_mib + spec.disk_mib
    assert sh(sandbox, "echo here").stdout == b"here\n"
