"""The seccomp profile of a container: what `sandbox.bubblewrap.seccomp` takes from an agent, in an engine's own terms.

An engine's default profile lets AF_VSOCK through, which reaches a hypervisor past any network namespace, and io_uring.
An engine takes one profile, so this one replaces the default, and names also what the default forbids a process without
capabilities. Names that a kernel does not have are passed over by the engine.
"""

import errno
import json
from typing import Any

_DENIED = """
acct add_key adjtimex bpf chroot clock_adjtime clock_settime delete_module fanotify_init finit_module fsconfig fsmount
fsopen fspick init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load
keyctl lookup_dcookie migrate_pages mount mount_setattr move_mount move_pages name_to_handle_at nfsservctl
open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root process_vm_readv process_vm_writev ptrace quotactl
quotactl_fd reboot request_key setdomainname sethostname setns settimeofday stime swapoff swapon sysfs syslog umount
umount2 unshare uselib userfaultfd ustat vhangup vm86 vm86old
"""
_CLONE_NEW = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
"""CLONE_NEW*: time, namespace, cgroup, uts, ipc, user, pid, net."""
_REFUSED_FAMILIES = (0, 3, 4, 5, 6, 7, 8, 9)
"""All below the highest that a program confined to its own loopback needs, but AF_UNIX (1) and AF_INET (2)."""
_AF_INET6 = 10
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C


_STOPS = (19, 20, 21, 22)
"""SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU. One that hits the engine's own process as it enters the container, already as the
agent's user, would hold up the engine itself, which then cannot even remove the container.
"""
_SENDERS = {
    "kill": 1,
    "tkill": 1,
    "tgkill": 2,
    "rt_sigqueueinfo": 1,
    "rt_tgsigqueueinfo": 2,
    "pidfd_send_signal": 1,
}
"""Syscalls that send a signal -> which argument is its number."""


def profile() -> str:
    """The profile as JSON, for `security_opt`."""
    rules = [
        _deny(_DENIED.split()),
        # Its flags lie behind a pointer, out of a filter's sight: ENOSYS makes libc use clone.
        _deny(["clone3"], code=errno.ENOSYS),
        *(_deny(["clone"], _argument(0, "SCMP_CMP_MASKED_EQ", flag, flag)) for flag in _CLONE_NEW),
        *(_deny(["ioctl"], _argument(1, "SCMP_CMP_EQ", call)) for call in (_TIOCSTI, _TIOCLINUX)),
        *(_deny_family("SCMP_CMP_EQ", family) for family in _REFUSED_FAMILIES),
        _deny_family("SCMP_CMP_GT", _AF_INET6),
        *(
            _deny([name], _argument(index, "SCMP_CMP_EQ", number))
            for name, index in _SENDERS.items()
            for number in _STOPS
        ),
    ]
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})


def _deny(
    names: list[str], argument: dict[str, Any] | None = None, code: int = errno.EPERM
) -> dict[str, Any]:
    arguments = [argument] if argument else []
    return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": code, "args": arguments}


def _deny_family(comparison: str, family: int) -> dict[str, Any]:
    return _deny(["socket"], _argument(0, comparison, family), code=errno.EAFNOSUPPORT)


def _argument(index: int, comparison: str, value: int, value_two: int = 0) -> dict[str, Any]:
    return {"index": index, "op": comparison, "value": value, "valueTwo": value_two}
