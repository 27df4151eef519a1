"""A verifier's scores of an evaluation's rollouts, by rollout id: EVAL_DIR/scores/NAME.jsonl. Light: standard library only.

Reading ties each score to its rollout by the id that stands beside it, never by its place in the file. What a verifier that
runs tests counted is `trainer.evaluations.counts`'.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import UUID

from trainer.evaluations.estimates import auc

FOLDER = "scores"
VERIFIER_NAME = r"\w[\w.-]*"
"""A regular expression: the name is a file's or folder's, and no way out of the evaluation's."""
VERIFIER_FILE = "verifier.json"
"""In a trained verifier's folder: on what it was trained and how well it judges."""
UNKNOWN = -1.0
"""Stands for the score of a rollout that has none: it is chosen last."""


class Judged(Protocol):
    """A rollout, as far as a verifier's worth goes."""

    @property
    def rollout(self) -> UUID: ...

    @property
    def reward(self) -> float | None: ...


def scores_path(eval_dir: Path, name: str) -> Path:
    return eval_dir / FOLDER / f"{name}.jsonl"


def read_scores(path: Path) -> dict[UUID, float]:
    """A torn last line is as if it were not there."""
    if not path.is_file():
        return {}
    scores = {}
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            row = json.loads(line)
            scores[UUID(row["rollout"])] = float(row["score"])
    return scores


def read_every_score(eval_dir: Path) -> dict[str, dict[UUID, float]]:
    """Verifier -> its scores."""
    paths = sorted((eval_dir / FOLDER).glob("*.jsonl"))
    return {path.stem: read_scores(path) for path in paths}


class Quality(NamedTuple):
    """Of a verifier's scores."""

    num_scored: int
    """Rollouts."""
    auc: float | None
    """Of telling solved rollouts from others, over all tasks; None when there is only one kind, and for counts of tests, which
    compare within a task alone."""


def worth(scores: Mapping[UUID, float], results: Sequence[Judged]) -> Quality:
    judged = [r for r in results if r.reward is not None and r.rollout in scores]
    return Quality(
        len(judged), auc([r.reward or 0.0 for r in judged], [scores[r.rollout] for r in judged])
    )
