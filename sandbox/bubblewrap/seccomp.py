"""The seccomp filter of a bubblewrap sandbox: a denylist as classic BPF, assembled here, without
libseccomp.

It takes from the agent what a container engine's default profile takes: mounting, new namespaces,
tracing, kernel keys, BPF, io_uring, modules, handles to files by inode, other machines' sockets
(AF_VSOCK reaches a hypervisor past any network namespace) and terminal injection. It is a second
wall behind namespaces and dropped capabilities. Reference: seccomp(2), linux/filter.h; syscall
numbers from the kernel's tables for x86_64 and aarch64.
"""

import errno
import platform
import struct
from typing import NamedTuple

_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_EPERM, _ENOSYS, _EAFNOSUPPORT = (
    0x00050000 | e for e in (errno.EPERM, errno.ENOSYS, errno.EAFNOSUPPORT)
)
_CLONE_NEW = 0x7E020080
"""Every CLONE_NEW* flag: time, namespace, cgroup, uts, ipc, user, pid, net."""
_SOCKET_FAMILIES = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6: all that a program confined to its own loopback needs."""
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C


class _Machine(NamedTuple):
    audit_arch: int
    denied: tuple[int, ...]
    clone: int
    clone3: int
    socket: int
    ioctl: int


_MACHINES = {
    "x86_64": _Machine(
        0xC000003E,
        # ptrace syslog pivot_root adjtimex chroot acct settimeofday mount umount2 swapon swapoff
        (101, 103, 155, 159, 161, 163, 164, 165, 166, 167, 168)
        # reboot sethostname setdomainname iopl ioperm init_module delete_module quotactl
        + (169, 170, 171, 172, 173, 175, 176, 179)
        # clock_settime kexec_load add_key request_key keyctl unshare perf_event_open fanotify_init
        + (227, 246, 248, 249, 250, 272, 298, 300)
        # open_by_handle_at clock_adjtime setns process_vm_* finit_module kexec_file_load bpf
        + (304, 305, 308, 310, 311, 313, 320, 321)
        # userfaultfd io_uring_* open_tree move_mount fs* pidfd_getfd mount_setattr
        + (323, 425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442),
        clone=56, clone3=435, socket=41, ioctl=16,
    ),
    "aarch64": _Machine(
        0xC00000B7,
        (117, 116, 41, 171, 51, 89, 170, 40, 39, 224, 225, 142, 161, 162, 105, 106, 60)
        + (112, 104, 217, 218, 219, 97, 241, 262)
        + (265, 266, 268, 270, 271, 273, 294, 280)
        + (282, 425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442),
        clone=220, clone3=435, socket=198, ioctl=29,
    ),
}  # fmt: skip


def seccomp_filter(machine: str = "") -> bytes:
    """The filter for `machine` (default: this one) as an array of `struct sock_filter`; empty where
    none is known.
    """
    known = _MACHINES.get(machine or platform.machine())
    if known is None:
        return b""
    rules = [_op(_LD, _ARCH), _op(_JEQ, known.audit_arch, 1, 0), _op(_RET, _KILL), _op(_LD, _NR)]
    rules += [_op(_JGE, 0x40000000, 0, 1), _op(_RET, _ENOSYS)]
    for number in known.denied:
        rules += [_op(_JEQ, number, 0, 1), _op(_RET, _EPERM)]
    # clone3's flags lie behind a pointer, out of a filter's sight: ENOSYS makes libc use clone.
    rules += [_op(_JEQ, known.clone3, 0, 1), _op(_RET, _ENOSYS)]
    rules += _on(
        known.clone,
        [_op(_LD, _ARG0), _op(_JSET, _CLONE_NEW, 0, 1), _op(_RET, _EPERM), _op(_RET, _ALLOW)],
    )
    rules += _on(
        known.ioctl,
        [_op(_LD, _ARG1), *_return_if((_TIOCSTI, _TIOCLINUX), _EPERM), _op(_RET, _ALLOW)],
    )
    rules += _on(
        known.socket,
        [_op(_LD, _ARG0), *_return_if(_SOCKET_FAMILIES, _ALLOW), _op(_RET, _EAFNOSUPPORT)],
    )
    return b"".join([*rules, _op(_RET, _ALLOW)])


def _op(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, k)


def _on(number: int, body: list[bytes]) -> list[bytes]:
    """`body`, which ends in a return, for the syscall `number` only."""
    return [_op(_JEQ, number, 0, len(body)), *body]


def _return_if(values: tuple[int, ...], verdict: int) -> list[bytes]:
    return [op for value in values for op in (_op(_JEQ, value, 0, 1), _op(_RET, verdict))]
