"""Rows of published tasksets into tasks: one reader a schema, chosen by name or by the columns that a row has.

A reader takes one row as a dict and gives a `Task`; what is wrong with a row is a `RowError`. Where
rows come from is `sandbox.rows.sources`; writing a taskset is `sandbox.load`.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import ValidationError

from sandbox.rows.fields import Row, RowError
from sandbox.rows.r2e import read_r2e
from sandbox.rows.swebench import read_swebench
from sandbox.rows.swesmith import read_swesmith
from sandbox.task import Task, TasksetError

Reader = Callable[[Row, str], Task]

READERS: Mapping[str, Reader] = {
    "r2e": read_r2e,
    "swebench": read_swebench,
    "swesmith": read_swesmith,
}
_TELLING = {"r2e": "expected_output_json", "swebench": "test_patch", "swesmith": "image_name"}
"""The column by which a schema is known."""


def detect_schema(columns: Collection[str]) -> str:
    """The schema of rows with these columns. Raises TasksetError naming what was looked for."""
    for name, column in _TELLING.items():
        if column in columns:
            return name
    looked = ", ".join(f"{column} ({name})" for name, column in _TELLING.items())
    raise TasksetError(
        f"columns {', '.join(sorted(columns)) or 'none'}: of no known schema; "
        f"needs one of {looked}, or --schema"
    )


def read_row(schema: str, number: int, values: Mapping[str, Any], taskset: str) -> Task:
    """Row `number` (from 1) as a task of `taskset`. Raises RowError."""
    try:
        return READERS[schema](Row(number=number, values=values), taskset)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RowError(number, field, first["input"], first["msg"]) from error
