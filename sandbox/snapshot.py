"""A repository's base commit and the patch against it, made with git but never with the agent's
git.

`INIT_SCRIPT` gives the working tree a fresh repository, so that no ref, reflog or
object of the future is in reach. `DIFF_SCRIPT` compares the working tree, read-only, with a copy of
that repository which the agent never held: no hook, filter, attribute or configuration of the
agent's is honoured. Both run inside a sandbox, which is each backend's affair; here are the scripts
and what their end means.
"""

import io
import tarfile
from collections.abc import Mapping
from typing import NamedTuple

from sandbox.base import ExecResult
from sandbox.errors import OUTCOME_OF_END, End, Outcome, SandboxDestroyed, SandboxGone
from sandbox.files import said

MAX_PATCH_BYTES = 8 << 20
"""A patch above this is refused: no fix is that large."""
MAX_NEW_FILE_KIB = 1024
"""New files above this (core dumps, logs) are left out of the patch."""

GIT_ENV = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "base",
    "GIT_AUTHOR_EMAIL": "base@localhost",
    "GIT_COMMITTER_NAME": "base",
    "GIT_COMMITTER_EMAIL": "base@localhost",
    "GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C.UTF-8",
}

_EXCLUDED = r"__pycache__/\n*.pyc\n.pytest_cache/\n/.venv\n"
_ATTRIBUTES = "* -text -ident -filter !eol !working-tree-encoding !diff !merge"


class Base(NamedTuple):
    """A repository at its base commit, as two tar archives."""

    testbed: bytes
    """The working tree with its .git, as the agent gets it."""
    git: bytes
    """The .git folder alone (its contents at the top), which the agent never holds."""
    hidden: bytes = b""
    """What was taken out of an image's repository, for grading; no sandbox holds it from the start."""


INIT_SCRIPT = f"""
git init -q -b main --template= .
mkdir -p .git/info
printf '{_EXCLUDED}' > .git/info/exclude
printf '{_ATTRIBUTES}\\n' > .git/info/attributes
git config core.logAllRefUpdates false
"""

_NO_BASE = 75
_BASE_STANDS = b"base stands\n"
DIFF_SCRIPT = f"""
set -e
trap 'exit {_NO_BASE}' EXIT
mkdir -p "$1/repo"
cd "$1"
tar -xf - -C repo --no-same-owner
export GIT_DIR="$1/repo"
git config core.hooksPath /dev/null
git config core.attributesFile /dev/null
git config core.excludesFile /dev/null
git config core.fsmonitor false
git config core.symlinks true
git config core.trustctime false
git config diff.renames false
git config gc.auto 0
rm -f "$GIT_DIR/index"
git read-tree HEAD
printf '{_EXCLUDED}' > "$GIT_DIR/info/exclude"
trap - EXIT
echo base stands >&2
export GIT_WORK_TREE="$2"
cd "$2"
find . -xdev -path ./.git -prune -o -type f -size +{MAX_NEW_FILE_KIB}k -print 2>/dev/null \\
  | sed -e 's,^\\.,,' -e 's,[][*?\\\\!# ],\\\\&,g' >> "$GIT_DIR/info/exclude"
git -c advice.addEmbeddedRepo=false add -A --ignore-errors . >&2 || true
exec git diff --cached --binary --full-index --no-ext-diff --no-textconv --no-color --no-renames \\
  --src-prefix=a/ --dst-prefix=b/ HEAD --
"""
"""$1 an empty scratch folder, $2 the working tree, stdin the archive `Base.git`: the patch on
stdout. Whether the base was laid out, in which the agent has no part, its exit code and its stderr say.
"""

_SPARE_MIB = 64
_SPARE_INODES = 5120
"""For what the script itself writes beside the base: an index, and the objects of changed files."""
_PAGE = 4096
_BLOCK = 512


class Room(NamedTuple):
    """What a memory-backed folder must hold for a patch to be made in it."""

    size_mib: int
    inodes: int


def room_for(git: bytes) -> Room:
    """For the archive `Base.git`, unpacked: a file takes whole pages there, and a base may be one file an object.

    Reads ustar headers itself (POSIX.1-1988): of 20,000 files in 16 ms, where tarfile takes 0.6 s at every start.
    """
    num_entries = num_pages = offset = 0
    while offset < len(git) and git[offset]:
        size = int(git[offset + 124 : offset + 136].rstrip(b"\0 ") or b"0", 8)
        num_entries += 1
        num_pages += -(-size // _PAGE)
        offset += _BLOCK * (1 + -(-size // _BLOCK))
    return Room(_SPARE_MIB + -(-num_pages * _PAGE >> 20), _SPARE_INODES + num_entries)


def pack(files: Mapping[str, bytes]) -> bytes:
    """`files` by relative path as a tar archive. Raises ValueError for a path out of the tree."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            if name.startswith("/") or ".." in name.split("/"):
                raise ValueError(
                    f"file {name!r}: give a path relative to the repository, without .."
                )
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def patch_of(result: ExecResult, workdir: str) -> bytes:
    """The patch that `DIFF_SCRIPT` printed. Raises SandboxDestroyed if the agent left a tree of which
    no sane patch can be made, SandboxGone if the sandbox ended underneath or has no room or time for the base.
    """
    if OUTCOME_OF_END[result.end] is Outcome.INFRA:
        raise SandboxGone(f"the sandbox ended while its patch was made ({result.end})")
    if result.exit_code == _NO_BASE:
        raise SandboxGone(
            f"base not laid out for a patch: {said(result)}: raise memory_mib and disk_mib"
        )
    if result.end is End.TIMEOUT and _BASE_STANDS not in result.stderr:
        raise SandboxGone(
            f"base not laid out after {result.duration_s:.0f} s: is the machine overloaded?"
        )
    if result.end is End.OUTPUT_LIMIT:
        raise SandboxDestroyed(
            f"patch larger than {MAX_PATCH_BYTES >> 20} MiB: no fix is that large"
        )
    if not result.ok:
        raise SandboxDestroyed(f"no patch of {workdir}: {said(result)}")
    return result.stdout
