"""From the summaries of `benchmarks.ablation` to a table and a plot: every cell beside the one with all seven parts.

The estimate is the mean, over seeds and held-out tasks, of a cell's solve rate after training minus that of the cell with
all seven parts, same seed and task. Its 95 % interval is a percentile bootstrap that draws seeds and tasks anew, both with
replacement, tasks alike for all seeds, for they are crossed (Owen, "The pigeonhole bootstrap", 2007). With three seeds it
is rough: an interval that holds 0 says that no difference was seen, not that there is none. Pure: data in, text out.
"""

import random
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from benchmarks.starter import RESAMPLES, Interval, pass_rewards

ALL_SEVEN = "all seven parts"
Summary = dict[str, Any]
FEWEST_SEEDS = 3
"""For a verdict: an interval over fewer holds the spread of the tasks, and hardly that between runs."""
WIDTH, ROW, LEFT, RIGHT, TOP = 720, 30, 190, 160, 34
"""Of the plot, in pixels."""


class Row(NamedTuple):
    cell: str
    seeds: int
    first_pass: float | None
    """Mean reward of the first whole pass over the training tasks."""
    last_pass: float | None
    trained: float | None
    """Held-out solve rate after training."""
    difference: Interval | None
    """To the cell with all seven parts over the seeds that both have; None for that cell, and while either is missing."""
    shared_seeds: int
    """How many those are."""

    @property
    def shortage(self) -> str:
        """Of seeds for a verdict; empty where there are enough."""
        few = self.shared_seeds < FEWEST_SEEDS
        return f"{self.shared_seeds} of {FEWEST_SEEDS} seeds" if few else ""

    @property
    def verdict(self) -> str:
        if self.difference is None:
            return "" if self.seeds and self.cell == ALL_SEVEN else "not measured yet"
        if self.shortage:
            return f"{self.shortage}: too few to tell"
        if self.difference.low > 0:
            return "better without"
        return "worse without" if self.difference.high < 0 else "no difference seen"


def rows(summaries: Sequence[Summary], cells: Sequence[str]) -> list[Row]:
    """One row a cell, in the order of `cells`."""
    by_cell = {cell: {s["seed"]: s for s in summaries if s["cell"] == cell} for cell in cells}
    return [_row(cell, by_cell[cell], by_cell[ALL_SEVEN]) for cell in cells]


def _row(cell: str, runs: dict[int, Summary], reference: dict[int, Summary]) -> Row:
    passes = [pass_rewards(summary) for summary in runs.values()]
    trained = [fmean(solve_rates(summary).values()) for summary in runs.values()]
    shared = sorted(runs.keys() & reference.keys())
    difference = None
    if shared and cell != ALL_SEVEN:
        pairs = [(solve_rates(runs[seed]), solve_rates(reference[seed])) for seed in shared]
        difference = crossed_bootstrap(
            [{t: a[t] - b[t] for t in a.keys() & b.keys()} for a, b in pairs]
        )
    return Row(
        cell=cell,
        seeds=len(runs),
        first_pass=fmean(first for first, _ in passes) if passes else None,
        last_pass=fmean(last for _, last in passes) if passes else None,
        trained=fmean(trained) if trained else None,
        difference=difference,
        shared_seeds=len(shared),
    )


def solve_rates(summary: Summary) -> dict[str, float]:
    """task -> held-out solve rate after training."""
    return {task: fmean(scores) for task, scores in summary["trained"].items() if scores}


def crossed_bootstrap(differences: Sequence[dict[str, float]], seed: int = 0) -> Interval:
    """Mean of [seed][task] differences and its percentile interval over seeds and tasks drawn anew."""
    tasks = sorted(set.intersection(*(set(by_task) for by_task in differences)))
    grid = [[by_task[task] for task in tasks] for by_task in differences]
    draw = random.Random(seed)
    means = []
    for _ in range(RESAMPLES):
        columns = draw.choices(range(len(tasks)), k=len(tasks))
        drawn = draw.choices(grid, k=len(grid))
        means.append(fmean(fmean(line[column] for column in columns) for line in drawn))
    means.sort()
    mean = fmean(fmean(line) for line in grid)
    return Interval(mean, means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1])


def table(summaries: Sequence[Summary], cells: Sequence[str]) -> str:
    """Markdown, one row a cell; what is missing is a dash."""
    lines = [
        "| configuration | seeds | reward, first pass | last pass | held out, trained "
        "| difference to all seven (95 %) | what we saw |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows(summaries, cells):
        lines.append(
            f"| {row.cell} | {row.seeds or '–'} | {_number(row.first_pass)} | {_number(row.last_pass)} "
            f"| {_number(row.trained)} | {_interval(row.difference)} | {row.verdict or '–'} |"
        )
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"{interval.mean:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"


def plot(summaries: Sequence[Summary], cells: Sequence[str]) -> str:
    """An SVG: a dot and its interval for every cell, on one axis with the line of no difference."""
    compared = [row for row in rows(summaries, cells) if row.cell != ALL_SEVEN]
    known = [row.difference for row in compared if row.difference]
    reach = max([0.1, *(abs(end) for interval in known for end in interval[1:])]) * 1.1
    height = TOP + ROW * len(compared) + 40
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2

    def x(value: float) -> float:
        return middle + value / reach * (WIDTH - LEFT - RIGHT) / 2

    bottom = TOP + ROW * len(compared)
    marks = [
        f'<line x1="{middle}" y1="{TOP - 6}" x2="{middle}" y2="{bottom}" stroke="#66707e" stroke-dasharray="4 3"/>'
    ]
    for value in (-reach / 1.1, 0.0, reach / 1.1):
        marks.append(
            _text(x(value), bottom + 18, f"{value:+.2f}" if value else "0", anchor="middle")
        )
    for number, row in enumerate(compared):
        y = TOP + ROW * number + ROW / 2
        marks.append(_text(LEFT - 14, y + 4, row.cell, anchor="end"))
        if row.difference is None:
            marks.append(_text(middle + 10, y + 4, "not measured yet", colour="#66707e"))
            continue
        mean, low, high = row.difference
        marks.append(
            f'<line x1="{x(low):.1f}" y1="{y}" x2="{x(high):.1f}" y2="{y}" stroke="#4542cf" stroke-width="2"/>'
        )
        marks.append(f'<circle cx="{x(mean):.1f}" cy="{y}" r="4.5" fill="#4542cf"/>')
        note = f" ({row.shortage})" if row.shortage else ""
        marks.append(_text(WIDTH - RIGHT + 14, y + 4, f"{mean:+.2f}{note}"))
    title = "Held-out solve rate beside all seven parts of GRPO++, with 95 % intervals"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}" '
        f'font-family="Inter, system-ui, sans-serif" font-size="13">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n'
        + _text(14, 18, title, weight=600)
        + "\n"
        + "\n".join(marks)
        + "\n</svg>\n"
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    colour: str = "#171b21",
    weight: int = 400,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )
