"""The few lines of shell that run one command in a pod as the agent, end all it started, and say how it went.

Kubernetes runs a command as the container's user (root here) and tells nothing of it afterwards: a child that holds a
stream keeps the connection open, and a stream may be cut short without an error. So root runs the command as the
agent's uid, kills every other process of the container when the command ends, and only then writes a trailer at the
end of both streams: a random word, which came over its input and which the agent cannot read, the exit code, and
the kernel's count of out-of-memory kills. A stream that does not end in its trailer was cut.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from sandbox.base import User

TOKEN_BYTES = 16
_COUNTERS = "/sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control"
"""Of control groups v2 and v1, as the container sees its own."""

_CLEAN = """
n=0
while kill -9 -1 2>/dev/null && [ $n -lt 2000 ]; do n=$((n+1)); wait; done
"""
"""Without a fork, which a full process limit would refuse. Repeated until nothing is left to signal. Also before each
command, for what an earlier one left whose connection was lost."""

_COUNT = f"""
oom=0
for f in {_COUNTERS}; do
  [ -r $f ] && while read -r k v; do [ "$k" = oom_kill ] && oom=$v; done <$f
done
"""

# The command has a subshell of its own: what a shell says of one killed by a signal stays out of its stderr.
_SUPERVISE = f"""
exec 3<&0 </dev/null 4>&2 2>/dev/null
{_CLEAN}
IFS= read -r token <&3
size=$1; shift
if [ "$size" -ge 0 ]; then
  {{ head -c "$size" <&3 4>&- & }} | (exec "$@" 2>&4 3<&- 4>&-)
else
  (exec "$@" 2>&4 3<&- 4>&-)
fi
code=$?
{_CLEAN}
{_COUNT}
printf '%s:%03d:%010d' "$token" "$code" "$oom"
printf '%s:%03d:%010d' "$token" "$code" "$oom" >&4
exit $code
"""

_RUN = 'cd -- "$1" && shift && exec "$@"'
_DROP = ("--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs")
PodUser = User | Literal["git"]
GIT_GROUP = "65533"
_IDS = {"agent": ("1000", "1000"), "root": ("0", "0"), "git": ("1000", GIT_GROUP)}
"""User and group. `git` reads what the agent reads, and alone may enter the folder in which patches are made."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TRAILER = re.compile(rb"([0-9a-f]{32}):(\d{3}):(\d{10})")
TRAILER_BYTES = 2 * TOKEN_BYTES + 15


class Trailer(NamedTuple):
    """What the supervisor wrote at the end of a stream."""

    exit_code: int
    oom_kills: int
    """Since the container started."""


def supervised(
    argv: Sequence[str],
    *,
    stdin_bytes: int | None,
    cwd: str,
    env: Mapping[str, str],
    user: PodUser,
    capabilities: bool = False,
) -> list[str]:
    """The command line that the container's root runs. `capabilities`: keep root's own, for our preparations alone.

    Raises ValueError for a variable name that is none.
    """
    for name in env:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"env {name!r}: give a name of letters, digits and underscores")
    uid, gid = _IDS[user]
    become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", *_DROP]
    return [
        "/bin/sh", "-c", _SUPERVISE, "supervisor",
        str(-1 if stdin_bytes is None else stdin_bytes),
        *([] if capabilities else become),
        "env", "-i", *(f"{name}={value}" for name, value in env.items()),
        "/bin/sh", "-c", _RUN, "sh", cwd, *argv,
    ]  # fmt: skip


def read_trailer(stream: bytes | bytearray, token: str) -> Trailer | None:
    """The trailer at the end of `stream`; None if it is not there."""
    found = _TRAILER.fullmatch(stream[-TRAILER_BYTES:])
    if found is None or found[1] != token.encode():
        return None
    return Trailer(int(found[2]), int(found[3]))
