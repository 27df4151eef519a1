"""Scores between rows and the files of `python -m trainer.verify`: EVAL_DIR/scores/NAME.jsonl.

A score belongs to the rollout whose id stands beside it. Rows are made of files, and a file of rows on a machine that does
not have it.
"""

import json
from pathlib import Path
from uuid import UUID

from trainer.scores import read_every_score, read_scores, scores_path
from webapp.assessments.models import Score
from webapp.evaluations.models import Evaluation
from webapp.rollouts.models import Rollout
from webapp.verifiers.models import Verifier
from webapp.verifiers.registry import known_by_scores


def scores_of(evaluation: Evaluation) -> dict[str, dict[UUID, float]]:
    """Verifier -> rollout -> its score."""
    rows = Score.objects.filter(rollout__evaluation=evaluation, rollout__superseded=False)
    found: dict[str, dict[UUID, float]] = {}
    for name, rollout, value in rows.order_by("verifier__name").values_list(
        "verifier__name", "rollout_id", "value"
    ):
        found.setdefault(name, {})[rollout] = value
    return found


def num_scores(evaluation: Evaluation) -> int:
    return Score.objects.filter(rollout__evaluation=evaluation).count()


def store(evaluation: Evaluation, verifier: Verifier, folder: Path) -> int:
    """Make rows of what the file has and the rows have not. Returns how many scores the file has."""
    told = read_scores(scores_path(folder, verifier.name))
    known = _known(evaluation, verifier)
    new = told.keys() - known.keys()
    ours = Rollout.objects.filter(evaluation=evaluation, id__in=new).values_list("id", flat=True)
    Score.objects.bulk_create(
        (Score(rollout_id=rollout, verifier=verifier, value=told[rollout]) for rollout in ours),
        ignore_conflicts=True,
    )
    return len(told)


def store_all(evaluation: Evaluation, folder: Path) -> None:
    """Of every verifier that has a file; one without a row is entered by its name."""
    for name in read_every_score(folder):
        store(evaluation, known_by_scores(name), folder)


def write(evaluation: Evaluation, verifier: Verifier, folder: Path) -> None:
    """Let the file have what the rows have, so that it is not asked for again."""
    path = scores_path(folder, verifier.name)
    missing = _known(evaluation, verifier).items() - read_scores(path).items()
    if not missing:
        return
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        for rollout, score in missing:
            file.write(json.dumps({"rollout": str(rollout), "score": score}) + "\n")


def _known(evaluation: Evaluation, verifier: Verifier) -> dict[UUID, float]:
    rows = Score.objects.filter(rollout__evaluation=evaluation, verifier=verifier)
    return dict(rows.values_list("rollout_id", "value"))
