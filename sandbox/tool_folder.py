"""The agent's tools as backends with images bring them in: a tar archive, laid into a folder of its own at each start.

An image need not hold them, and one that does has them covered, so a sandbox's tools are always those of this
version. The folder belongs to a user that no command ever runs as: neither the agent nor root without capabilities can
write there. bubblewrap binds `sandbox/tools` read-only instead.
"""

from functools import cache

from sandbox.rootfs import TOOLS
from sandbox.snapshot import pack

TOOL_FOLDER = "/opt/tools"
OWNER = "65534:65534"
SIZE_MIB = 1


@cache
def tools_archive() -> bytes:
    """Every tool, as a tar archive."""
    return pack({path.name: path.read_bytes() for path in sorted(TOOLS.glob("*.py"))})
