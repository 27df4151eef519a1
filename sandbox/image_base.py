"""The base commit of a repository that an image holds: copied out of it, hidden files taken away, git scrubbed.

Of the image's git nothing stays but the commit that grading names (`SandboxSpec.base_commit`), without
its history; when none is named, the files become a new repository of one commit. So no ref, tag,
remote, reflog or object of the future is left, and the script fails if one is. The scripts run in a
sandbox of the image in which no agent ever was; a backend only has to say where the image's folders
lie in it. Repositories given as files are `sandbox.snapshot`'s.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Protocol

from sandbox import snapshot
from sandbox.base import SandboxSpec
from sandbox.errors import SandboxUnavailable

OUTSIDE_TESTS = "/r2e_tests"
"""Where published R2E-Gym images hold the hidden tests: outside the repository, in reach of every program. A backend hides
it from every sandbox."""
BLANK = "/base"
"""The working tree of a sandbox in which an image's repository is made ready: the image's own stays in sight."""
_SCRATCH = "/tmp/base"  # noqa: S108
_TAR_END = bytes(1024)
_COPY = 'if [ "$1" != . ]; then (cd "$1" && tar -cf - .) | tar -xf - --no-same-owner; fi'

_HIDE = """
set -e
scratch=$1 outside=$2; shift 2
mkdir -p "$scratch/hidden"
for name in "$@"; do
  if [ -L "$name" ]; then rm "$name"; fi
  if [ -e "$name" ]; then
    case $name in */*) mkdir -p "$scratch/hidden/${name%/*}";; esac
    mv "$name" "$scratch/hidden/$name"
  fi
  if [ "/$name" = /r2e_tests ] && [ ! -e "$scratch/hidden/$name" ] && [ -d "$outside" ]; then
    cp -r "$outside" "$scratch/hidden/$name"
  fi
done
"""

_SCRUB = f"""
set -e
base=$1
: > "$2/tracked"
if [ -n "$base" ]; then
  git --git-dir=.git config uploadpack.allowAnySHA1InWant true
  mv .git .git-image
  {snapshot.INIT_SCRIPT}
  git -c protocol.file.allow=always fetch -q --no-tags --depth=1 "file://$PWD/.git-image" "$base"
  git update-ref refs/heads/main "$base"
  git read-tree HEAD
  rm -rf .git-image .git/FETCH_HEAD
else
  if [ -e .git ]; then git --git-dir=.git ls-files -z -c -i --exclude-standard > "$2/tracked" || : > "$2/tracked"; fi
  rm -rf .git
  {snapshot.INIT_SCRIPT}
fi
cat > "$2/setup.patch"
if [ -s "$2/setup.patch" ]; then git apply --whitespace=nowarn -p1 "$2/setup.patch"; fi
git add -A
git update-index -z --add --remove --stdin < "$2/tracked"
if ! git rev-parse -q --verify HEAD > /dev/null || ! git diff --cached --quiet HEAD; then
  git commit -q --allow-empty -m base
fi
rm -rf .git/logs .git/COMMIT_EDITMSG
"""
"""$1 the commit to keep or nothing, $2 a scratch folder, stdin the set-up patch. What the image's git tracks is part of
the base even where a .gitignore names it.
"""
_COMMIT_FILES = f"""
set -e
rm -rf .git
{snapshot.INIT_SCRIPT}
git add -A -f
git commit -q --allow-empty -m base
rm -rf .git/logs .git/COMMIT_EDITMSG
"""
"""Every file given is part of the base, whatever a .gitignore among them says."""


_RUNNABLE = 'if [ -L "$1" ] && [ ! -x "$1" ]; then readlink "$1"; fi'
_PYTHON = ".venv/bin/python"


class Blank(Protocol):
    """A sandbox before any agent."""

    def run_git(self, argv: Sequence[str], stdin: bytes | None = None) -> bytes:
        """Run a trusted command in the working tree; its output. Raises SandboxUnavailable."""
        ...

    def close(self) -> None: ...


def container_base(
    spec: SandboxSpec, create: Callable[[SandboxSpec, snapshot.Base], Blank]
) -> snapshot.Base:
    """The base of `spec`, made in a container of its image that `create` starts. Raises SandboxUnavailable."""
    # An image's repository is seen where no volume lies over it.
    seen = spec if spec.files else replace(spec, workdir=BLANK)
    with closing(create(seen, snapshot.Base(snapshot.pack(spec.files), b""))) as blank:
        if spec.files:
            return files_base(blank)
        return image_base(blank, spec, testbed=spec.workdir, tests=OUTSIDE_TESTS)


def files_base(blank: Blank) -> snapshot.Base:
    """The base of the files that lie in the working tree. Raises SandboxUnavailable."""
    blank.run_git(["sh", "-c", _COMMIT_FILES])
    return _packed(blank, b"")


def image_base(blank: Blank, spec: SandboxSpec, *, testbed: str, tests: str) -> snapshot.Base:
    """The base of an image's repository, which `blank` sees at `testbed` ("." when it lies in the working tree already)
    and its outside tests at `tests`. Raises SandboxUnavailable.
    """
    blank.run_git(["sh", "-euc", _COPY, "sh", testbed])
    if lost := blank.run_git(["sh", "-c", _RUNNABLE, "sh", _PYTHON]).decode().strip():
        raise SandboxUnavailable(
            f"docker_image {spec.docker_image!r}: {_PYTHON} leads to {lost}, which an ordinary user cannot run: "
            "add a layer that opens the folders on the way (for example chmod 755 /root)"
        )
    blank.run_git(["sh", "-c", _HIDE, "sh", _SCRATCH, tests, *spec.hidden])
    blank.run_git(["sh", "-c", _SCRUB, "sh", spec.base_commit, _SCRATCH], spec.setup_patch)
    _assert_scrubbed(blank, spec)
    hidden = _archive(blank, "-C", f"{_SCRATCH}/hidden", ".")
    return _packed(blank, hidden)


def _assert_scrubbed(blank: Blank, spec: SandboxSpec) -> None:
    reachable = {line.split()[0] for line in _git(blank, "rev-list", "--objects", "HEAD")}
    present = set(_git(blank, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)"))
    refs = _git(blank, "for-each-ref", "--format=%(refname)") + _git(blank, "remote")
    left = sorted(present - reachable) + [ref for ref in refs if ref != "refs/heads/main"]
    if left:
        raise SandboxUnavailable(
            f"docker_image {spec.docker_image!r}: git holds {left[0]} beyond the base commit"
        )


def _git(blank: Blank, *arguments: str) -> list[str]:
    return blank.run_git(["git", *arguments]).decode("utf-8", "replace").splitlines()


def _packed(blank: Blank, hidden: bytes) -> snapshot.Base:
    return snapshot.Base(
        testbed=_archive(blank, "."), git=_archive(blank, "-C", ".git", "."), hidden=hidden
    )


def _archive(blank: Blank, *arguments: str) -> bytes:
    """A whole tar archive: what is cut short must not be kept as a base."""
    data = blank.run_git(["tar", "-cf", "-", "--sort=name", *arguments])
    if not data.endswith(_TAR_END):
        raise SandboxUnavailable(f"base commit: {len(data)} bytes of an archive arrived: try again")
    return data
