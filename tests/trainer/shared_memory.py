"""What vLLM leaves in memory-backed disk when it is not allowed to clean up."""

from contextlib import suppress
from pathlib import Path

from trainer.engines.weights import SHARED_MEMORY


def orphaned_segments() -> set[str]:
    """Shared memory of vLLM that no process has mapped any more."""
    maps = []
    for path in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            maps.append(path.read_text())
    return {p.name for p in SHARED_MEMORY.glob("psm_*") if not any(p.name in m for m in maps)}
