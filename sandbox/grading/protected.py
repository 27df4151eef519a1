"""Which files of a patch the grader does not take over: what decides how tests run belongs to the
task, not to the agent.

Pure: paths and file contents in, decisions out. Putting the files back is `sandbox.grading`'s work.
"""

import re
import tomllib
from collections.abc import Container, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

PYPROJECT = "pyproject.toml"
HIDDEN_TESTS = {"r2e_tests", "run_tests.sh"}
_RUNNER_FILES = {
    "conftest.py",
    "pytest.ini",
    ".pytest.ini",
    "pytest.toml",
    ".pytest.toml",
    "tox.ini",
    "setup.cfg",
    "run_tests.sh",
    "run_tests.py",
}
_STARTUP_MODULES = {"sitecustomize", "usercustomize"}
"""What Python imports by itself: a file of any kind, or a package."""
_SHADOWED = {"pytest", "_pytest", "pluggy", "iniconfig"}
"""Top-level names that would stand in for the test runner itself."""
_SHIM = re.compile(r"(python[\d.]*|pytest|py\.test)")
"""File names that a search path would find in place of the interpreter or the runner."""
_PLUGIN_FOLDERS = {".egg-info", ".dist-info"}
_TEST_FOLDERS = {"tests", "test"}
_TOUCHED = re.compile(r"^--- a/(.+)$|^\+\+\+ b/(.+)$", re.M)
"""The files of a patch, before and after."""
_MAX_TOML_LINE = 1000
"""In characters: reading a key takes time by the square of its length."""


class Protection(NamedTuple):
    """What to undo of a patch, and what it says about the agent."""

    removed: tuple[str, ...]
    """Paths the patch added: delete them."""
    restored: tuple[str, ...]
    """Paths the patch changed or deleted: put the task's own back."""
    flags: frozenset[str]


class Change(NamedTuple):
    """One changed path of a patch."""

    status: str
    """A added, M modified, D deleted, T type changed (git's letters)."""
    path: str


def read_changes(listing: bytes) -> list[Change]:
    """From the output of `git diff --name-status -z --no-renames`."""
    fields = listing.decode("utf-8", "surrogateescape").split("\0")[:-1]
    return [Change(status, path) for status, path in zip(fields[::2], fields[1::2], strict=True)]


def protect(
    changes: Sequence[Change],
    pyprojects: Mapping[str, tuple[str, str]] | None = None,
    gold_patch: str = "",
) -> Protection:
    """What to undo of `changes`; `pyprojects` is the text of each pyproject.toml before and after: one that is
    not there is undone. What the gold patch changes is no test, also in a folder called so (`django/test`).
    """
    source = {path for pair in _TOUCHED.findall(gold_patch) for path in pair}
    flags: set[str] = set()
    undone = []
    for change in changes:
        flag = _flag(change, pyprojects or {}, source)
        if flag:
            flags.add(flag)
            undone.append(change)
    return Protection(
        removed=tuple(c.path for c in undone if c.status == "A"),
        restored=tuple(c.path for c in undone if c.status != "A"),
        flags=frozenset(flags),
    )


def _flag(change: Change, pyprojects: Mapping[str, tuple[str, str]], source: Container[str]) -> str:
    path = PurePosixPath(change.path)
    if _STARTUP_MODULES & set(map(_module, path.parts)) or path.suffix == ".pth":
        return "startup_hook"
    if path.name == "entry_points.txt" and path.parent.suffix in _PLUGIN_FOLDERS:
        return "startup_hook"
    if _SHIM.fullmatch(path.name):
        return "path_shim"
    if path.name in _RUNNER_FILES or path.parts[0] in HIDDEN_TESTS or _shadows(path):
        return "edited_tests"
    if path.name == PYPROJECT and _configures_pytest(pyprojects.get(change.path)):
        return "edited_tests"
    if change.status != "A" and _is_test(path) and change.path not in source:
        return "edited_tests"
    return ""


def _shadows(path: PurePosixPath) -> bool:
    return _module(path.parts[0]) in _SHADOWED


def _module(part: str) -> str:
    """As what a file or folder of this name is imported, be it source, byte code, an extension or a package."""
    return part.partition(".")[0]


def _is_test(path: PurePosixPath) -> bool:
    """A test of the task or its data; new test files are the agent's to write, and are not run."""
    named = path.name.startswith("test_") or path.name.endswith("_test.py")
    return (path.suffix == ".py" and named) or bool(_TEST_FOLDERS & set(path.parts[:-1]))


def _configures_pytest(texts: tuple[str, str] | None) -> bool:
    """Whether it says something else to pytest than before; a file that was not looked at may."""
    return texts is None or _pytest_table(texts[0]) != _pytest_table(texts[1])


def _pytest_table(text: str) -> object:
    """The table; the whole text where that cannot be read."""
    if max(map(len, text.split("\n"))) > _MAX_TOML_LINE:
        return text
    try:
        tool = tomllib.loads(text).get("tool", {})
    except (ValueError, RecursionError):
        return text
    return tool.get("pytest") if isinstance(tool, dict) else text
