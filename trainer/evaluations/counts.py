"""What an execution-based verifier counted of an evaluation's rollouts: EVAL_DIR/open_tests/NAME/counts.jsonl, by rollout id.

Light: standard library only. What a count is, `sandbox.grading.counts` says; beside the file stand the events of the agent that
wrote the reproduction tests.
"""

import json
from pathlib import Path
from uuid import UUID

from sandbox.grading.counts import Counts as Counts

FOLDER = "open_tests"
COUNTS_FILE = "counts.jsonl"


UNCOUNTED = Counts(-1, -1)
"""Stands for a rollout without counts: it is chosen last."""


def counts_path(eval_dir: Path, name: str) -> Path:
    return eval_dir / FOLDER / name / COUNTS_FILE


def read_counts(path: Path) -> dict[UUID, Counts]:
    """A torn last line is as if it were not there."""
    if not path.is_file():
        return {}
    rows = (json.loads(line) for line in path.read_text().splitlines(True) if line.endswith("\n"))
    return {UUID(row["rollout"]): Counts(row["regression"], row["reproduction"]) for row in rows}


def read_every_count(eval_dir: Path) -> dict[str, dict[UUID, Counts]]:
    """Verifier -> its counts."""
    paths = sorted((eval_dir / FOLDER).glob(f"*/{COUNTS_FILE}"))
    return {path.parent.name: read_counts(path) for path in paths}


def line_of(rollout: UUID, counts: Counts) -> str:
    return json.dumps({"rollout": str(rollout), **counts._asdict()}) + "\n"
