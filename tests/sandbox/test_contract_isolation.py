"""The contract: what a sandbox cannot reach."""

import os
import socket
from pathlib import Path

from sandbox.base import Backend, Sandbox, SandboxSpec
from tests.sandbox.contract import opened, sh


def test_the_agent_has_no_privilege(sandbox: Sandbox) -> None:
    status = sh(sandbox, "cat /proc/self/status").stdout.decode()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    assert sh(sandbox, "unshare -U true").exit_code != 0


def test_root_inside_has_no_capability_either(sandbox: Sandbox) -> None:
    argv = ["sh", "-c", "id -u; grep -E 'Cap(Eff|Prm|Bnd|Inh)' /proc/self/status"]
    lines = sandbox.exec(argv, user="root", timeout_s=20).stdout.decode().split("\n")
    assert lines[0] == "0"
    assert {int(line.split()[1], 16) for line in lines[1:-1]} == {0}


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


def test_there_is_no_network(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = "import socket; socket.create_connection((%r, %d), 2)"
        local = sandbox.exec(["python3", "-c", connect % ("127.0.0.1", port)], timeout_s=20)
    assert b"ConnectionRefusedError" in local.stderr
    outside = sandbox.exec(["python3", "-c", connect % ("192.0.2.1", 80)], timeout_s=20)
    assert b"Network is unreachable" in outside.stderr


def test_there_is_no_way_to_a_hypervisor(sandbox: Sandbox) -> None:
    script = "import socket; socket.socket(socket.AF_VSOCK)"
    tried = sandbox.exec(["python3", "-c", script], timeout_s=20)
    assert b"Address family not supported" in tried.stderr


def test_nothing_of_the_host_is_inside(sandbox: Sandbox, host_file: Path) -> None:
    paths = f"{host_file} /var/run/docker.sock /run/containerd {Path(__file__)} /etc/shadow"
    assert sh(sandbox, f"cat {paths} 2>/dev/null; ls /root /home").stdout.split() in (
        [b"/home:", b"agent", b"/root:"],
        [b"/home:", b"agent"],
    )


def test_processes_of_the_host_are_out_of_sight(sandbox: Sandbox) -> None:
    result = sh(sandbox, "ls -d /proc/[0-9]* | wc -l; cat /proc/[0-9]*/cmdline")
    count, _, lines = result.stdout.partition(b"\n")
    assert int(count) < 12
    assert b"pytest" not in lines
    assert sh(sandbox, f"kill -0 {os.getpid()}").exit_code != 0


def test_system_folders_and_tools_are_read_only(sandbox: Sandbox) -> None:
    places = "/ /usr /usr/bin /etc /opt /opt/tools /opt/python/bin"
    script = f"for d in {places}; do touch $d/x && echo $d; done; echo >> /opt/tools/search.py && echo tool"
    for user in ("agent", "root"):
        result = sandbox.exec(["sh", "-c", script], user=user, timeout_s=20)  # type: ignore[arg-type]
        assert result.stdout == b"", user


def test_nothing_can_be_mounted(sandbox: Sandbox) -> None:
    for user in ("agent", "root"):
        argv = ["mount", "-t", "tmpfs", "none", "/tmp"]
        result = sandbox.exec(argv, user=user, timeout_s=20)  # type: ignore[arg-type]
        assert result.exit_code not in (0, 127, None), user


def test_the_kernel_cannot_be_configured(sandbox: Sandbox) -> None:
    script = "echo 1 > /proc/sys/kernel/panic; echo b > /proc/sysrq-trigger; "
    script += "echo 1 > /proc/sys/vm/drop_caches; echo x > /sys/kernel/uevent_helper"
    for user in ("agent", "root"):
        argv = ["sh", "-c", script]
        result = sandbox.exec(argv, user=user, timeout_s=20)  # type: ignore[arg-type]
        assert result.stderr.count(b"cannot create") == 4, result


def test_devices_are_harmless_ones(sandbox: Sandbox) -> None:
    found = set(sh(sandbox, "find /dev -type b -o -type c | xargs -n1 basename").stdout.split())
    harmless = b"null zero full random urandom tty ptmx console pts 0".split()
    assert found <= set(harmless)
    assert (
        sandbox.exec(["mknod", "/tmp/d", "b", "8", "0"], user="root", timeout_s=20).exit_code != 0
    )


def test_the_clock_cannot_be_set(sandbox: Sandbox) -> None:
    for user in ("agent", "root"):
        result = sandbox.exec(["date", "-s", "2001-01-01"], user=user, timeout_s=20)  # type: ignore[arg-type]
        assert result.exit_code != 0


def test_a_set_uid_file_of_the_agents_gives_nothing(sandbox: Sandbox) -> None:
    result = sh(sandbox, "cp $(which id) own; chmod 6755 own; ./own -u; ./own -g")
    assert result.stdout == b"1000\n1000\n"


def test_a_sandbox_is_named_sandbox(sandbox: Sandbox) -> None:
    assert sh(sandbox, "cat /proc/sys/kernel/hostname").stdout == b"sandbox\n"


def test_another_sandboxes_shared_memory_is_out_of_reach(
    backend: Backend, sandbox: Sandbox, spec: SandboxSpec
) -> None:
    with opened(backend, spec) as other:
        sh(sandbox, "echo mine > /dev/shm/mine")
        assert sh(other, "ls -A /dev/shm").stdout == b""
