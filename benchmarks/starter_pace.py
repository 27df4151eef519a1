"""How fast the starter learns, beside how fast it did before the trainer was made fast and computed in float32.

    python -m benchmarks.starter_pace

writes the table between the marks in docs/benchmarks.md from summaries of `benchmarks.starter`: the earlier runs' are
benchmarks/results/starter_before_seed_N.json, the present ones' starter_seed_N.json.
"""

import json
from itertools import accumulate
from statistics import fmean
from typing import Any, NamedTuple

import click

from benchmarks.marked import put
from benchmarks.starter import RESULTS, ROOT, mean_score, reward, steps_per_pass

GAIN = 0.2
"""Reward above the first pass that counts as learned."""
DOC = ROOT / "docs" / "benchmarks.md"


class Reached(NamedTuple):
    """When a run's reward had grown by `GAIN`."""

    step: int
    seconds: float
    """Of its steps until then, without evaluations."""


def reached(summary: dict[str, Any]) -> Reached | None:
    """The end of the first whole pass whose mean reward is the first pass's and `GAIN`; None where no pass came there."""
    steps, length = summary["steps"], steps_per_pass(summary)
    aim = reward(steps[:length]) + GAIN
    seconds = list(accumulate(step["seconds"] for step in steps))
    for end in range(2 * length, len(steps) + 1, length):
        if reward(steps[end - length : end]) >= aim:
            return Reached(end, seconds[end - 1])
    return None


def pace_table(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> str:
    """One row a seed that both have."""
    rows = [
        "| seed | | steps | first pass | last pass | held out, untrained | trained "
        "| +0.2 after steps | s a step | +0.2 after seconds |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    earlier = {summary["seed"]: summary for summary in before}
    for summary in sorted(after, key=lambda summary: int(summary["seed"])):
        if summary["seed"] in earlier:
            rows.append(_row("before", earlier[summary["seed"]]))
            rows.append(_row("now", summary))
    return "\n".join(rows) + "\n"


def _row(name: str, summary: dict[str, Any]) -> str:
    steps, length = summary["steps"], steps_per_pass(summary)
    untrained, trained = mean_score(summary["untrained"]), mean_score(summary["trained"])
    when = reached(summary)
    gained = (str(when.step), f"{when.seconds:.0f}") if when else ("not reached", "")
    return (
        f"| {summary['seed']} | {name} | {len(steps)} | {reward(steps[:length]):.2f} | {reward(steps[-length:]):.2f} "
        f"| {untrained:.2f} | {trained:.2f} | {gained[0]} | {fmean(step['seconds'] for step in steps):.0f} | {gained[1]} |"
    )


@click.command()
def main() -> None:
    """Write the table into docs/benchmarks.md."""
    before, after = (
        [json.loads(path.read_text()) for path in sorted(RESULTS.glob(pattern))]
        for pattern in ("starter_before_seed_*.json", "starter_seed_*.json")
    )
    put(DOC, "starter pace", pace_table(before, after))


if __name__ == "__main__":
    main()
