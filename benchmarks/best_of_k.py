"""Base model and trained checkpoint on the starter's held-out tasks, and what choosing among k rollouts adds.

    python -m benchmarks.best_of_k summarise BASE TRAINED --verifier NAME    two evaluations' folders -> their rollouts
    python -m benchmarks.best_of_k write                                     rollouts -> the README's table and curve

TRAINED has the verifier's scores in TRAINED/scores/NAME.jsonl (`python -m trainer.verify`). What is kept is a line a rollout,
so that each figure can be computed again; the computing is `trainer.evaluations`' (`summary`, `methods`, `comparison`).
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import NamedTuple
from uuid import UUID

import click

from benchmarks.marked import put
from trainer.evaluations.comparison import bootstrap_difference, mcnemar
from trainer.evaluations.methods import RANDOM, Method, methods
from trainer.evaluations.results import read_results
from trainer.evaluations.scores import read_scores, scores_path
from trainer.evaluations.summary import PASS, RolloutRow, Summary, by_task, summarize
from trainer.reports.content import percent, points
from trainer.reports.plots import curves_plot, standalone

ROOT = Path(__file__).parent.parent
ROLLOUTS = ROOT / "benchmarks" / "results" / "best_of_k.jsonl"
PLOT = ROOT / "docs" / "best_of_k.svg"
README = ROOT / "README.md"
VERIFIER = "verifier"


class Kept(NamedTuple):
    base: list[RolloutRow]
    trained: list[RolloutRow]
    scores: dict[UUID, float]
    """The verifier's, of the trained model's rollouts."""


def read_folders(base: Path, trained: Path, verifier: str) -> Kept:
    """Raises ValueError where a rollout lacks a reward or a score."""
    rows = [[result.row for result in read_results(folder)] for folder in (base, trained)]
    kept = Kept(*rows, read_scores(scores_path(trained, verifier)))
    if unscored := [row for row in kept.trained if row.rollout not in kept.scores]:
        raise ValueError(f"{trained}: {len(unscored)} rollouts have no score of {verifier!r}")
    if any(row.reward is None for row in (*kept.base, *kept.trained)):
        raise ValueError("a rollout has no reward: let the evaluations finish first")
    return kept


def to_lines(kept: Kept) -> str:
    lines = [
        json.dumps(
            {"model": model}
            | row._asdict()
            | {"rollout": str(row.rollout), "score": kept.scores.get(row.rollout)}
        )
        for model, rows in (("base", kept.base), ("trained", kept.trained))
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def from_lines(lines: Iterable[str]) -> Kept:
    kept = Kept([], [], {})
    for line in lines:
        told = json.loads(line)
        rollout, model, score = UUID(told.pop("rollout")), told.pop("model"), told.pop("score")
        (kept.base if model == "base" else kept.trained).append(RolloutRow(rollout=rollout, **told))
        if score is not None:
            kept.scores[rollout] = score
    return kept


def text(kept: Kept) -> str:
    """The README's words: base beside trained, then the ways to choose."""
    base, trained = summarize(kept.base), summarize(kept.trained)
    rates = solve_rates(kept.base), solve_rates(kept.trained)
    test, gained = mcnemar(*rates), bootstrap_difference(*rates)
    k = len(trained.curves[PASS])
    chosen = {method.name: method for method in methods(kept.trained, {VERIFIER: kept.scores})}
    lines = [
        f"| {trained.num_tasks} held-out tasks, {k} rollouts each | pass@1 (95 %) | pass@{k} |",
        "|---|---|---|",
        _model("base model", base),
        _model("after 20 steps", trained),
        "",
        f"The difference in pass@1 is {points(gained)} points; {test.second_wins} tasks are solved more often and "
        f"{test.first_wins} less often (exact sign test, p = {test.p_value:.2g}).",
        f"Of the trained model's {k} rollouts one is chosen:",
        "",
        f"| chosen by | best@{k} | the verifier's gain over it, points (95 %) |",
        "|---|---|---|",
        *(_choice(method, chosen[VERIFIER]) for method in chosen.values()),
        f"| an oracle (pass@{k}) | {trained.curves[PASS][-1]:.1%} | |",
    ]
    return "\n".join(lines) + "\n"


def solve_rates(rows: Iterable[RolloutRow]) -> dict[str, float]:
    """task -> mean reward."""
    return {
        task: fmean(row.reward or 0.0 for row in group) for task, group in by_task(rows).items()
    }


def _model(name: str, summary: Summary) -> str:
    assert summary.pass_1 is not None
    return f"| {name} | {percent(summary.pass_1)} | {summary.curves[PASS][-1]:.1%} |"


def _choice(method: Method, verifier: Method) -> str:
    gain = "" if method is verifier else points(verifier.gains[method.name])
    name = "chance, in closed form" if method.name == RANDOM else method.name
    return f"| {name} | {method.best:.1%} | {gain} |"


def curves(kept: Kept) -> Mapping[str, list[float]]:
    """Name of a line -> its value at k = 1, 2, ..., the mean over tasks."""
    chosen = methods(kept.trained, {VERIFIER: kept.scores})
    return (
        {"pass@k, trained": summarize(kept.trained).curves[PASS]}
        | {f"best@k, {method.name}": method.curve for method in chosen}
        | {"pass@k, base model": summarize(kept.base).curves[PASS]}
    )


@click.group()
def main() -> None:
    """Choosing among k rollouts of the starter's held-out tasks."""


FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@main.command()
@click.argument("base", type=FOLDER)
@click.argument("trained", type=FOLDER)
@click.option("--verifier", required=True, help="name of the scores in TRAINED/scores")
def summarise(base: Path, trained: Path, verifier: str) -> None:
    """Keep what the figures rest on."""
    kept = read_folders(base, trained, verifier)
    ROLLOUTS.write_text(to_lines(kept))
    click.echo(text(kept))


@main.command()
def write() -> None:
    """The table into README.md, the curve into docs/."""
    kept = from_lines(ROLLOUTS.read_text().splitlines())
    PLOT.write_text(standalone(curves_plot(curves(kept))))
    put(README, "best-of-k table", text(kept))


if __name__ == "__main__":
    main()
