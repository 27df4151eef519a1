"""A git patch as files of rows, with syntax colours and line numbers, unified or side by side.
Pure.

A patch comes from an agent: it may be no patch at all (`DiffError`), huge (shown folded, without
colours), or hostile (made plain, escaped by the highlighter).
"""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from django.utils.safestring import SafeString, mark_safe
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from unidiff.errors import UnidiffParseError
from unidiff.patch import PatchSet

from webapp.rollouts.plaintext import every_character

FOLD_LINES = 400
"""A file with more rows starts folded."""
COLOUR_LINES = 4000
"""A file with more rows has no syntax colours: they would take seconds."""

Kind = Literal["context", "added", "removed", "hunk"]


class DiffError(ValueError):
    """The text is no patch."""


@dataclass(frozen=True, kw_only=True)
class Row:
    kind: Kind
    old: int | None
    new: int | None
    code: SafeString


class Pair(NamedTuple):
    """One line of the side-by-side view; a side may be empty."""

    left: Row | None
    right: Row | None


@dataclass(frozen=True, kw_only=True)
class FileDiff:
    path: str
    renamed_from: str
    what: str
    """added, deleted, renamed or changed."""
    num_added: int
    num_removed: int
    rows: tuple[Row, ...]
    anchor: str

    @property
    def is_folded(self) -> bool:
        return len(self.rows) > FOLD_LINES

    @property
    def pairs(self) -> list[Pair]:
        return list(_paired(self.rows))


@lru_cache(maxsize=128)
def file_diffs(patch: str) -> tuple[FileDiff, ...]:
    """The files of a git patch in its order. Raises DiffError."""
    try:
        patched = PatchSet(every_character(patch))
    except (UnidiffParseError, ValueError) as error:
        raise DiffError(str(error)) from error
    if patch.strip() and not patched:
        raise DiffError("no file in it")
    return tuple(_file(file, number) for number, file in enumerate(patched, start=1))


def replacement_rows(path: str, old: str, new: str) -> list[Row]:
    """An edit as rows: all of `old` removed, all of `new` added."""
    removed, added = (
        [f"{line}\n" for line in every_character(side).splitlines()] for side in (old, new)
    )
    return [
        *_numbered("removed", _coloured(path, removed)),
        *_numbered("added", _coloured(path, added)),
    ]


def coloured(path: str, text: str) -> SafeString:
    """Source text with syntax colours by its file name."""
    lines = [f"{line}\n" for line in every_character(text).splitlines()]
    return mark_safe("\n".join(_coloured(path, lines)))  # noqa: S308 - escaped by the highlighter


def _numbered(kind: Literal["added", "removed"], lines: list[SafeString]) -> Iterator[Row]:
    yield from (Row(kind=kind, old=None, new=None, code=line) for line in lines)


def _file(file: Any, number: int) -> FileDiff:
    what = "added" if file.is_added_file else "deleted" if file.is_removed_file else "changed"
    rows = tuple(row for hunk in file for row in _hunk(file.path, hunk, len(file)))
    return FileDiff(
        path=file.path,
        renamed_from=file.source_file.removeprefix("a/") if file.is_rename else "",
        what="renamed" if file.is_rename else what,
        num_added=file.added,
        num_removed=file.removed,
        rows=rows,
        anchor=f"file-{number}",
    )


def _hunk(path: str, hunk: Any, num_hunks: int) -> Iterator[Row]:
    lines = [line for line in hunk if line.line_type in " +-"]
    heading = (
        f"@@ -{hunk.source_start},{hunk.source_length} +{hunk.target_start},{hunk.target_length} @@"
    )
    section = html.escape(f"{heading} {hunk.section_header}".strip())
    yield Row(kind="hunk", old=None, new=None, code=mark_safe(section))  # noqa: S308 - escaped
    small = len(lines) * num_hunks <= COLOUR_LINES
    colour = _coloured if small else _escaped
    old = iter(colour(path, [line.value for line in lines if not line.is_added]))
    new = iter(colour(path, [line.value for line in lines if not line.is_removed]))
    for line in lines:
        before = None if line.is_added else next(old)
        after = None if line.is_removed else next(new)
        kind: Kind = "added" if line.is_added else "removed" if line.is_removed else "context"
        code = after if after is not None else before
        yield Row(
            kind=kind,
            old=line.source_line_no,
            new=line.target_line_no,
            code=code or SafeString(),
        )


def _coloured(path: str, lines: Sequence[str]) -> list[SafeString]:
    """One piece of HTML a line."""
    try:
        lexer = get_lexer_for_filename(path, stripnl=False, ensurenl=True)
    except ClassNotFound:
        lexer = TextLexer(stripnl=False, ensurenl=True)
    text = "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
    coloured = highlight(text, lexer, HtmlFormatter(nowrap=True)).split("\n")[: len(lines)]
    if len(coloured) != len(lines):
        return _escaped(path, lines)
    return [mark_safe(line) for line in coloured]  # noqa: S308 - escaped by the highlighter


def _escaped(path: str, lines: Sequence[str]) -> list[SafeString]:
    return [mark_safe(html.escape(line.rstrip("\n"))) for line in lines]  # noqa: S308 - escaped


def _paired(rows: Sequence[Row]) -> Iterator[Pair]:
    """Removed lines beside the added ones that follow them."""
    removed: list[Row] = []
    added: list[Row] = []
    for row in (*rows, None):
        if row is not None and row.kind == "removed" and not added:
            removed.append(row)
        elif row is not None and row.kind == "added":
            added.append(row)
        else:
            yield from _zipped(removed, added)
            removed, added = [], []
            if row is not None and row.kind == "removed":
                removed.append(row)
            elif row is not None:
                yield Pair(row, row)


def _zipped(removed: list[Row], added: list[Row]) -> Iterator[Pair]:
    for i in range(max(len(removed), len(added))):
        yield Pair(
            removed[i] if i < len(removed) else None,
            added[i] if i < len(added) else None,
        )
