"""Git patches from the texts of files, and a patch turned around. Pure; applying one is git's work."""

import difflib
import re
from collections.abc import Iterator

_NO_NEWLINE = "\\ No newline at end of file"
_ABSENT = "\0"
"""Stands for the line above at the end of the line that it is about: no text patch holds a NUL."""


def file_patch(path: str, old: str | None, new: str | None) -> str:
    """A git patch (-p1) of one file; None stands for a file that is not there."""
    if old == new:
        return ""
    head = f"diff --git a/{path} b/{path}\n"
    if old is None:
        head += "new file mode 100644\n"
    if new is None:
        head += "deleted file mode 100644\n"
    names = (
        "/dev/null" if old is None else f"a/{path}",
        "/dev/null" if new is None else f"b/{path}",
    )
    lines = difflib.unified_diff(_lines(old), _lines(new), *names, n=3)
    return head + "".join(_ended(lines))


def _lines(text: str | None) -> list[str]:
    """Split at newlines alone: a form feed or a lone carriage return is part of its line."""
    return [] if not text else [f"{line}\n" for line in text.split("\n")[:-1]] + _rest(text)


def _rest(text: str) -> list[str]:
    last = text.rpartition("\n")[2]
    return [last] if last else []


def _ended(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n{_NO_NEWLINE}\n"


def is_test_path(path: str) -> bool:
    """Whether a file of a commit is one of its tests, as R2E-Gym splits them: the rest is the fix."""
    parts = path.split("/")
    name = parts[-1]
    named = name.startswith("test_") or name.endswith("_test.py") or name == "conftest.py"
    return named or bool({"test", "tests", "testing"} & set(parts[:-1]))


def reverse_patch(patch: str) -> str:
    """The git patch that undoes `patch`. Raises ValueError for what has no text to turn around."""
    lines = iter(patch.replace(f"\n{_NO_NEWLINE}", _ABSENT).split("\n"))
    turned: list[str] = []
    for line in lines:
        if line.startswith("@@ "):
            header, sizes = _turned_hunk(line)
            turned += [header, *_turned_body(lines, *sizes)]
        elif line.startswith("+++ "):
            # git wants `---` before `+++`: the name before it has become the second.
            turned.insert(-1, f"--- {line[4:].replace('b/', 'a/', 1)}")
        else:
            turned += _turned_header(line)
    return "\n".join(turned).replace(_ABSENT, f"\n{_NO_NEWLINE}")


_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(.*)")
_REFUSED = ("GIT binary patch", "Binary files", "rename ", "copy ", "old mode")


def _turned_hunk(line: str) -> tuple[str, tuple[int, int]]:
    """The header turned around, and how many lines before and after follow it as it stood."""
    found = _HUNK.match(line)
    if not found:
        raise ValueError(f"hunk header {line!r}")
    old_start, old_size, new_start, new_size, rest = found.groups()
    old, new = int(old_size or 1), int(new_size or 1)
    return f"@@ -{new_start},{new} +{old_start},{old} @@{rest}", (old, new)


def _turned_body(lines: Iterator[str], old: int, new: int) -> Iterator[str]:
    """A hunk's lines with `-` and `+` exchanged, `-` first wherever both stand together."""
    gone: list[str] = []
    came: list[str] = []
    while old > 0 or new > 0:
        line = next(lines, "")
        old -= line[:1] in ("-", " ", "")
        new -= line[:1] in ("+", " ", "")
        if line.startswith("+"):
            gone.append(f"-{line[1:]}")
        elif line.startswith("-"):
            came.append(f"+{line[1:]}")
        else:
            yield from (*gone, *came, line)
            gone, came = [], []
    yield from (*gone, *came)


def _turned_header(line: str) -> list[str]:
    if line.startswith(_REFUSED):
        raise ValueError(f"line {line!r}")
    if line.startswith("index "):
        return []
    if line.startswith("new file mode"):
        return [line.replace("new file", "deleted file", 1)]
    if line.startswith("deleted file mode"):
        return [line.replace("deleted file", "new file", 1)]
    if line.startswith("--- "):
        return [f"+++ {line[4:].replace('a/', 'b/', 1)}"]
    return [line]
