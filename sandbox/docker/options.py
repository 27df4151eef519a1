"""How a sandbox's container is made: every isolation option, limit and label in one place.

Root inside is powerless: no capability, no way to gain one, a read-only root filesystem. PID 1 belongs to nobody, so
that neither the agent nor root inside can signal it. What they can write is tmpfs, and all of it together is `disk_mib`.
"""

from typing import Any

import docker

from sandbox import snapshot
from sandbox.base import SandboxSpec
from sandbox.docker import seccomp
from sandbox.image_base import BLANK, OUTSIDE_TESTS
from sandbox.labels import label_map, lease_name
from sandbox.tool_folder import OWNER, SIZE_MIB, TOOL_FOLDER

KEEP_ALIVE = ["tail", "-f", "/dev/null"]
KEEPER = "65534:65534"
AGENT = "1000:1000"
ROOT = "0:0"
GIT = "1000:65533"
"""Reads what the agent reads, and alone may enter `SCRATCH`: the agent is not of this group."""
SCRATCH = "/run/deepswe"
"""Where a patch is made, out of the agent's reach, so that a full disk does not prevent it."""

_INODES_PER_MIB = 64


def container_options(spec: SandboxSpec, sandbox_id: str, base: snapshot.Base) -> dict[str, Any]:
    """Keyword arguments of the SDK's `containers.create`."""
    scratch = snapshot.room_for(base.git)
    # The disk is memory, charged to who writes it: a full one must leave room to run.
    memory = (spec.memory_mib + spec.disk_mib + scratch.size_mib) << 20
    return {
        "name": lease_name(sandbox_id, spec.labels.expires),
        "command": KEEP_ALIVE,
        "entrypoint": [],
        "init": True,
        "user": KEEPER,
        "working_dir": "/",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges", f"seccomp={seccomp.profile()}"],
        "network_mode": "none",
        "ipc_mode": "private",
        "hostname": "sandbox",
        "read_only": True,
        "tmpfs": _disk(spec) | _scratch(scratch) | _tools() | _hidden_tests(spec),
        "shm_size": _share(spec.disk_mib, 8) << 20,
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": spec.pids + OWN_PIDS + 1,  # and the process that ends what a command left
        "nano_cpus": int(spec.cpus * 1e9),
        "log_config": docker.types.LogConfig(type="none"),
        "labels": label_map(spec.labels, sandbox_id),
    }


def _hidden_tests(spec: SandboxSpec) -> dict[str, str]:
    """An empty folder over an image's hidden tests, but for where its repository is made ready."""
    wanted = not spec.files and spec.workdir != BLANK
    return {OUTSIDE_TESTS: "size=4k,mode=0700,ro"} if wanted else {}


def _scratch(room: snapshot.Room) -> dict[str, str]:
    size = f"size={room.size_mib}m,nr_inodes={room.inodes}"
    return {SCRATCH: f"{size},uid=0,gid={GIT.partition(':')[2]},nosuid,nodev,mode=0770"}


def _tools() -> dict[str, str]:
    uid, _, gid = OWNER.partition(":")
    return {TOOL_FOLDER: f"{_size(SIZE_MIB)},uid={uid},gid={gid},nosuid,nodev,noexec,mode=0755"}


OWN_PIDS = 2
"""Processes of a container at rest: PID 1 and the keep-alive."""


def _disk(spec: SandboxSpec) -> dict[str, str]:
    """Half of the disk for the repository, a quarter for /tmp, an eighth each for home and /dev/shm:
    one tmpfs cannot be mounted in four places.
    """
    owned = "uid=1000,gid=1000,exec,nosuid,nodev"
    return {
        spec.workdir: f"{_size(_share(spec.disk_mib, 2))},{owned},mode=0755",
        "/tmp": f"{_size(_share(spec.disk_mib, 4))},{owned},mode=1777",  # noqa: S108
        "/home/agent": f"{_size(_share(spec.disk_mib, 8))},{owned},mode=0755",
    }


def _share(disk_mib: int, part: int) -> int:
    return max(1, disk_mib // part)


def _size(mib: int) -> str:
    return f"size={mib}m,nr_inodes={1024 + mib * _INODES_PER_MIB}"
