"""The results as Parquet: one row a rollout that counts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sandbox.task import Task
from trainer.evaluations.results import Result

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("index", pa.int32()),
        ("rollout", pa.string()),
        ("repository", pa.string()),
        ("difficulty", pa.string()),
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("outcome", pa.string()),
        ("termination_reason", pa.string()),
        ("reward", pa.float64()),
        ("flags", pa.list_(pa.string())),
        ("num_turns", pa.int32()),
        ("num_prompt_tokens", pa.int64()),
        ("num_sampled_tokens", pa.int64()),
        ("num_response_tokens", pa.int64()),
        ("seconds", pa.float64()),
        ("grade_s", pa.float64()),
        ("reason", pa.string()),
        ("patch", pa.binary()),
    ]
)
"""`reward` is null where the rollout has no score; `patch` is a git patch, whole."""


def write_table(path: Path, results: Sequence[Result], tasks: Mapping[str, Task]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [_row(result, tasks[result.task]) for result in results]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)


def _row(result: Result, task: Task) -> dict[str, Any]:
    told = result.finished.model_dump(include=set(SCHEMA.names) - {"rollout", "patch"})
    return told | {
        "index": result.index,
        "rollout": str(result.rollout),
        "repository": task.repo_name,
        "difficulty": task.difficulty,
        "started_at": result.started_at,
        "patch": result.patch,
    }
