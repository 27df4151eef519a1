"""What verifiers say, between rows and the files of `python -m trainer.verify` and `trainer.run_tests`.

A line belongs to the rollout whose id stands in it. Rows are made of files, and a file of rows on a machine that does not
have it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Max

from trainer.evaluations.counts import Counts, counts_path, line_of, read_counts, read_every_count
from trainer.evaluations.scores import read_every_score, read_scores, scores_path
from webapp.assessments.models import Result
from webapp.evaluations.models import Evaluation
from webapp.rollouts.models import Rollout
from webapp.verifiers.models import Verifier, VerifierKind
from webapp.verifiers.registry import known_by_results

FIELDS = ("score", "regression", "reproduction")
"""Of a row; a judge's has the first, one of tests the others."""


@dataclass(kw_only=True)
class Results:
    """Verifier -> rollout -> what it says."""

    scores: dict[str, dict[UUID, float]] = field(default_factory=dict)
    counts: dict[str, dict[UUID, Counts]] = field(default_factory=dict)


def results_of(evaluation: Evaluation) -> Results:
    """Of the rollouts that count, verifiers by name."""
    rows = Result.objects.filter(rollout__evaluation=evaluation, rollout__superseded=False)
    columns = ("verifier__name", "rollout_id", "score", "regression", "reproduction")
    found = Results()
    for name, rollout, score, regression, reproduction in rows.order_by(
        "verifier__name"
    ).values_list(*columns):
        if score is not None:
            found.scores.setdefault(name, {})[rollout] = score
        else:
            found.counts.setdefault(name, {})[rollout] = Counts(regression, reproduction)
    return found


def state_of_results(evaluation: Evaluation) -> str:
    """How many there are and the newest: another where any came or went."""
    rows = Result.objects.filter(rollout__evaluation=evaluation)
    found = rows.aggregate(num=Count("id"), newest=Max("id"))
    return f"{found['num']} to {found['newest']}"


def store(evaluation: Evaluation, verifier: Verifier, folder: Path) -> int:
    """Make rows of what the file has and the rows have not, or have otherwise. Returns how many rollouts the file has."""
    told = _read(verifier, folder)
    known = Result.objects.filter(rollout__evaluation=evaluation, verifier=verifier)
    as_told = {
        row["rollout_id"]
        for row in known.values("rollout_id", *FIELDS)
        if told.get(row["rollout_id"]) == {k: row[k] for k in FIELDS if row[k] is not None}
    }
    new = told.keys() - as_told
    ours = Rollout.objects.filter(evaluation=evaluation, id__in=new).values_list("id", flat=True)
    rows = [Result(rollout_id=rollout, verifier=verifier, **told[rollout]) for rollout in ours]
    with transaction.atomic():
        known.filter(rollout__in=[row.rollout_id for row in rows]).delete()
        Result.objects.bulk_create(rows, ignore_conflicts=True)
    return len(told)


def store_all(evaluation: Evaluation, folder: Path) -> None:
    """Of every verifier that has a file; one without a row is entered by its name. Raises RegistryError."""
    named: tuple[tuple[VerifierKind, Iterable[str]], ...] = (
        (VerifierKind.JUDGE, read_every_score(folder)),
        (VerifierKind.TESTS, read_every_count(folder)),
    )
    for kind, names in named:
        for name in names:
            store(evaluation, known_by_results(name, kind), folder)


def write(evaluation: Evaluation, verifier: Verifier, folder: Path) -> None:
    """Let the file have what the rows have, so that it is not asked for again. One that is older than the verifier is of
    another that had its name, and goes. Where counts are, they are by the scripts that are there, and others do not fit.
    """
    path = _path(verifier, folder)
    if path.exists() and path.stat().st_mtime < verifier.created_at.timestamp():
        path.unlink()
    if path.exists() and verifier.kind == VerifierKind.TESTS:
        return
    known = _read(verifier, folder)
    rows = Result.objects.filter(rollout__evaluation=evaluation, verifier=verifier)
    missing = [row for row in rows if row.rollout_id not in known]
    if not missing:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(_line(row) for row in missing)


def _path(verifier: Verifier, folder: Path) -> Path:
    find = scores_path if verifier.kind == VerifierKind.JUDGE else counts_path
    return find(folder, verifier.name)


def _read(verifier: Verifier, folder: Path) -> Mapping[UUID, dict[str, float]]:
    """Rollout -> the fields of its row."""
    path = _path(verifier, folder)
    if verifier.kind == VerifierKind.JUDGE:
        return {rollout: {"score": score} for rollout, score in read_scores(path).items()}
    return {rollout: counts._asdict() for rollout, counts in read_counts(path).items()}


def _line(row: Result) -> str:
    if row.score is not None:
        return json.dumps({"rollout": str(row.rollout_id), "score": row.score}) + "\n"
    return line_of(row.rollout_id, Counts(row.regression or 0, row.reproduction or 0))
