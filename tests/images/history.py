"""The repositories under `histories/`, played back into git: the same commits with the same ids every time.

Each is a folder of patches as `git format-patch` writes them. A commit that changes tests and something
else, and whose subject begins with "Fix", is a bug fix: its message is the issue. What images and rows
are made of such fixes is `tests.images.rows`'s and `tests.images.build`'s.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.rows.patches import is_test_path

HISTORIES = Path(__file__).parent / "histories"
_ENV = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_COMMITTER_NAME": "Robin Mallory",
    "GIT_COMMITTER_EMAIL": "robin@example.org",
}


@dataclass(frozen=True, kw_only=True)
class Fix:
    """One bug fix of a repository."""

    repo: str
    repository: Path
    commit: str
    parent: str
    subject: str
    issue: str
    fixed_files: tuple[str, ...]
    test_files: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.repo}-{self.commit[:12]}"

    def patch(self, *, tests: bool) -> str:
        """The fix alone, or its tests alone, as a git patch."""
        paths = self.test_files if tests else self.fixed_files
        return git(self.repository, "diff", self.parent, self.commit, "--", *paths)

    def file(self, path: str, *, fixed: bool) -> str:
        commit = self.commit if fixed else self.parent
        listed = git(self.repository, "ls-tree", "--name-only", commit, path)
        return git(self.repository, "show", f"{commit}:{path}") if listed else ""


def play(name: str, folder: Path) -> list[Fix]:
    """Make the repository `name` in the empty `folder`; its bug fixes, oldest first."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", "main", "--template=")
    patches = sorted(str(path) for path in (HISTORIES / name).glob("*.patch"))
    git(folder, "am", "-q", "--committer-date-is-author-date", *patches)
    commits = git(folder, "rev-list", "--reverse", "HEAD").split()
    fixes = (_fix(name, folder, commit) for commit in commits[1:])
    return [fix for fix in fixes if fix is not None]


def _fix(repo: str, folder: Path, commit: str) -> Fix | None:
    subject, _, body = git(folder, "show", "-s", "--format=%B", commit).partition("\n")
    changed = git(folder, "diff", "--name-only", f"{commit}^", commit).split()
    tests = tuple(path for path in changed if is_test_path(path))
    rest = tuple(path for path in changed if path not in tests)
    if not subject.startswith("Fix ") or not tests or not rest:
        return None
    return Fix(
        repo=repo,
        repository=folder,
        commit=commit,
        parent=git(folder, "rev-parse", f"{commit}^").strip(),
        subject=subject,
        issue=f"# {subject.removeprefix('Fix ').capitalize()}\n\n{body.strip()}\n",
        fixed_files=rest,
        test_files=tests,
    )


def git(folder: Path, *arguments: str) -> str:
    command: Sequence[str] = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(
        command, env={**os.environ, **_ENV}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def names() -> list[str]:
    return sorted(path.name for path in HISTORIES.iterdir() if path.is_dir())
