"""Where rows come from: a JSONL file, a Parquet file, or a dataset of the Hugging Face hub by its name.

Rows are read one after the other and never all at once: those of R2E-Gym run to megabytes each.
Parquet and the hub need PyPI's `datasets`, which is imported when they are asked for.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sandbox.errors import TasksetError
from sandbox.rows.fields import RowError

SourceRow = Mapping[str, Any] | RowError
"""A row by column, or what is wrong with a line that is no row."""


def read_source(source: str, *, split: str = "train") -> Iterator[SourceRow]:
    """Rows in their order. Raises TasksetError for a source that cannot be read."""
    path = Path(source)
    if path.suffix in (".jsonl", ".ndjson", ".parquet"):
        if not path.is_file():
            raise TasksetError(f"source {source!r}: no such file")
        return _parquet(path) if path.suffix == ".parquet" else _jsonl(path)
    if path.exists() or source.count("/") != 1:
        raise TasksetError(
            f"source {source!r}: needs a .jsonl or .parquet file, or a dataset's name as OWNER/NAME"
        )
    return _hub(source, split)


def _jsonl(path: Path) -> Iterator[SourceRow]:
    """One for each line that is not blank."""
    with path.open("rb") as lines:
        for number, line in enumerate(filter(bytes.strip, lines), start=1):
            yield _row_of(number, line)


def _row_of(number: int, line: bytes) -> SourceRow:
    shown = line.decode("utf-8", "replace")
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return RowError(number, "line", shown, f"is not JSON: {error}")
    if not isinstance(row, dict):
        return RowError(number, "line", shown, "needs one JSON object a line")
    return row


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=16):
                yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise TasksetError(f"source {path}: not readable as Parquet: {error}") from error


def _hub(name: str, split: str) -> Iterator[Mapping[str, Any]]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    try:
        yield from load_dataset(name, split=split, streaming=True)
    except (DatasetNotFoundError, ValueError, OSError) as error:
        raise TasksetError(
            f"source {name!r}, split {split!r}: {error}; "
            "check the name, the split and the connection, or download its Parquet files"
        ) from error
