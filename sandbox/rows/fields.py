"""One row of a published taskset, read field by field: each fault names row, field, value and remedy.

Lists come as lists from Parquet and as JSON text from some JSONL files: both are taken.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.errors import TasksetError

_SHOWN_CHARS = 80


class RowError(TasksetError):
    """A row that is no task. `remedy` is what its owner can do."""

    def __init__(self, row: int, field: str, value: object, remedy: str) -> None:
        shown = repr(value)
        self.row, self.field, self.remedy = row, field, remedy
        self.value = shown if len(shown) <= _SHOWN_CHARS else f"{shown[:_SHOWN_CHARS]}..."
        super().__init__(f"row {row}: {field}={self.value}: {remedy}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row by column, and its number from 1. All methods raise RowError."""

    number: int
    values: Mapping[str, Any]

    def text(self, field: str) -> str:
        """A text that must not be empty."""
        value = self.values.get(field)
        if not isinstance(value, str) or not value.strip():
            raise self.error(field, "needs a text that is not empty")
        return value

    def optional_text(self, field: str) -> str:
        value = self.values.get(field)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.error(field, "needs a text, or nothing")
        return value

    def number_of(self, field: str) -> int:
        value = self.values.get(field, 0)
        if not isinstance(value, int) or value < 0:
            raise self.error(field, "needs a whole number of at least 0")
        return value

    def texts(self, field: str) -> list[str]:
        """A list, empty when the column is absent."""
        value = self.values.get(field)
        if isinstance(value, str):
            value = self._decoded(field)
        if value is None:
            return []
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self.error(field, "needs a list of texts, or one as JSON")
        return list(value)

    def some_texts(self, field: str) -> list[str]:
        """A list that must hold one text at least."""
        items = self.texts(field)
        if not items:
            raise self.error(field, "needs at least one name: without it nothing shows the bug")
        return items

    def json_object(self, field: str) -> dict[str, Any]:
        """A JSON object given as text; empty when the column is absent or empty."""
        if not self.optional_text(field).strip():
            return {}
        value = self._decoded(field)
        if not isinstance(value, dict):
            raise self.error(field, "needs a JSON object")
        return value

    def _decoded(self, field: str) -> Any:
        try:
            return json.loads(self.values[field])
        except json.JSONDecodeError as error:
            raise self.error(field, f"needs JSON: {error}") from error

    def error(self, field: str, remedy: str) -> RowError:
        return RowError(self.number, field, self.values.get(field), remedy)
