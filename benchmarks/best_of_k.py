"""Base model and trained checkpoint on the starter's held-out tasks, and what choosing among k rollouts adds.

    python -m benchmarks.best_of_k summarise BASE TRAINED --verifier NAME    two evaluations' folders -> a summary
    python -m benchmarks.best_of_k write                                     summary -> the README's table and curve

TRAINED has the verifier's scores in TRAINED/scores/NAME.jsonl (`python -m trainer.verify`). The summary holds every rollout's
reward, patch and score, so that each figure can be computed again.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.curves import line_plot
from trainer.comparison import Difference, bootstrap_difference, mcnemar
from trainer.estimates import best_by_score, best_by_vote, pass_at_1, pass_at_k
from trainer.results import read_results
from trainer.scores import read_scores, scores_path
from trainer.selection import Patch, agreement_votes, shortest_patch_scores

ROOT = Path(__file__).parent.parent
SUMMARY = ROOT / "benchmarks" / "results" / "best_of_k.json"
PLOT = ROOT / "docs" / "best_of_k.svg"
README = ROOT / "README.md"
MARKS = re.compile(r"(<!-- best-of-k table -->\n).*?(<!-- /best-of-k table -->)", re.DOTALL)

Rollouts = dict[str, list[dict[str, Any]]]
"""task -> its rollouts, each with reward, digest and size of its patch, and the verifier's score."""
ByTask = dict[str, list[float]]
"""task -> best@k for k = 1..n."""


def summarise_evaluation(folder: Path, verifier: str = "") -> Rollouts:
    """Raises ValueError where a rollout lacks a reward or a score."""
    scores = read_scores(scores_path(folder, verifier)) if verifier else {}
    rollouts: Rollouts = {}
    for result in read_results(folder):
        if result.reward is None or (verifier and result.rollout not in scores):
            raise ValueError(f"{folder}: rollout {result.rollout} has no reward or no score")
        told = {"reward": result.reward, "digest": result.row.patch_digest[:16]}
        told |= {"size": result.row.patch_size, "score": scores.get(result.rollout)}
        rollouts.setdefault(result.task, []).append(told)
    return rollouts


def methods(rollouts: Rollouts) -> dict[str, ByTask]:
    """Name of a way to choose -> best@k of each task. Chance, in closed form, is pass@1 at every k; any of k is pass@k."""
    chosen: dict[str, ByTask] = {name: {} for name in ("any of k", "vote", "shortest patch")}
    chosen |= {"verifier": {}, "chance": {}}
    for task, told in rollouts.items():
        rewards = [r["reward"] for r in told]
        patches = [Patch(r["digest"], r["size"]) for r in told]
        solved, n = sum(reward >= 1 for reward in rewards), len(rewards)
        chosen["any of k"][task] = [pass_at_k(n, solved, k) for k in range(1, n + 1)]
        chosen["vote"][task] = best_by_vote(rewards, agreement_votes(patches))
        chosen["shortest patch"][task] = best_by_score(rewards, shortest_patch_scores(patches))
        chosen["verifier"][task] = best_by_score(rewards, [r["score"] for r in told])
        chosen["chance"][task] = best_by_score(rewards, [0] * n)
    return chosen


def against(first: ByTask, second: ByTask) -> Difference:
    """Second minus first at the largest k, by the paired bootstrap over tasks."""
    found = bootstrap_difference(
        {task: values[-1] for task, values in first.items()},
        {task: values[-1] for task, values in second.items()},
    )
    assert found is not None
    return found


def text(summary: dict[str, Any]) -> str:
    """The README's words: base beside trained, then the ways to choose."""
    base, trained = summary["base"], summary["trained"]
    k = min(len(told) for told in trained.values())
    rates = [_rates(base), _rates(trained)]
    test = mcnemar(*rates)
    gained = bootstrap_difference(*rates)
    assert gained is not None
    lines = [
        f"| {len(trained)} held-out tasks, {k} rollouts each | pass@1 (95 %) | pass@{k} |",
        "|---|---|---|",
        _row("base model", base, k),
        _row("after 20 steps", trained, k),
        "",
        f"The difference in pass@1 is {_signed(gained)}; {test.second_wins} tasks are solved more often and {test.first_wins} "
        f"less often (exact sign test, p = {test.p_value:.2g}). Of the trained model's {k} rollouts one is chosen:",
        "",
        f"| chosen by | best@{k} | verifier minus this (95 %) |",
        "|---|---|---|",
    ]
    chosen = methods(trained)
    for name in ("verifier", "vote", "shortest patch", "chance", "any of k"):
        label = {"any of k": f"an oracle (pass@{k})", "chance": "chance, in closed form"}.get(
            name, name
        )
        value = sum(values[-1] for values in chosen[name].values()) / len(trained)
        gap = "" if name == "verifier" else _signed(against(chosen[name], chosen["verifier"]))
        lines.append(f"| {label} | {value:.1%} | {gap} |")
    return "\n".join(lines) + "\n"


def _rates(rollouts: Rollouts) -> dict[str, float]:
    return {task: sum(r["reward"] for r in told) / len(told) for task, told in rollouts.items()}


def _row(name: str, rollouts: Rollouts, k: int) -> str:
    first = pass_at_1({task: [r["reward"] for r in told] for task, told in rollouts.items()})
    assert first is not None
    low, high = first.interval
    solved = [pass_at_k(len(t), sum(r["reward"] >= 1 for r in t), k) for t in rollouts.values()]
    mean = sum(solved) / len(solved)
    return f"| {name} | {first.value:.1%} ({low:.1%} to {high:.1%}) | {mean:.1%} |"


def _signed(difference: Difference) -> str:
    low, high = (100 * end for end in difference.interval)
    return f"{100 * difference.value:+.1f} points ({low:+.1f} to {high:+.1f})"


def curves(summary: dict[str, Any]) -> dict[str, list[float]]:
    """Name of a line -> its value at k = 1, 2, ..., the mean over tasks."""
    chosen = methods(summary["trained"])
    lines = {
        "any of k, trained": chosen["any of k"],
        "shortest patch": chosen["shortest patch"],
        "vote": chosen["vote"],
        "verifier": chosen["verifier"],
        "chance": chosen["chance"],
        "any of k, base model": methods(_unscored(summary["base"]))["any of k"],
    }
    return {name: _mean(list(by_task.values())) for name, by_task in lines.items()}


def _unscored(rollouts: Rollouts) -> Rollouts:
    return {task: [r | {"score": 0.0} for r in told] for task, told in rollouts.items()}


def _mean(values: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(values) for column in zip(*values, strict=True)]


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
    summary = {
        "verifier": verifier,
        "base": summarise_evaluation(base),
        "trained": summarise_evaluation(trained, verifier),
    }
    SUMMARY.write_text(json.dumps(summary, indent=1) + "\n")
    click.echo(text(summary))


@main.command()
def write() -> None:
    """The table into README.md, the curve into docs/."""
    summary = json.loads(SUMMARY.read_text())
    title = "Solved against k: the trained model's held-out tasks by what chooses among k rollouts"
    PLOT.write_text(line_plot(curves(summary), title=title))
    told, count = MARKS.subn(lambda m: m[1] + text(summary) + m[2], README.read_text())
    if not count:
        raise click.ClickException(f"{README.name}: the marks <!-- best-of-k table --> are missing")
    README.write_text(told)


if __name__ == "__main__":
    main()
