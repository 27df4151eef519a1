"""From the summaries of `benchmarks.ablation` to a table and a plot: every cell beside the one with all seven parts.

A run counts as one number, its held-out solve rate after training, for what differs between two runs of one configuration
is most of what there is to see. Differences of cells to the one with all seven parts, with 95 % intervals that hold all at
once, are Dunnett's ("A multiple comparison procedure for comparing several treatments with a control", 1955) over the cells
that have every seed; the spread between runs is estimated from all of them together. An interval that holds 0 says that no
difference was seen, not that there is none. Where cells are known to be equal in effect, the others stand beside all of their
runs together too, which sees smaller differences. Pure: data in, text out.
"""

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from scipy.stats import dunnett

from benchmarks.starter import Interval, pass_rewards

ALL_SEVEN = "all seven parts"
Summary = dict[str, Any]
FEWEST_SEEDS = 3
"""For an interval: the spread between runs is not known from fewer."""
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
    difference: float | None
    """Of `trained` to the cell with all seven parts; None for that cell, and while either is missing."""
    interval: Interval | None
    """Of the difference; None while either has fewer than `FEWEST_SEEDS`."""
    beside_equal: Interval | None
    """The difference to all runs of the cells that are equal in effect; None for those, and while one of them lacks seeds."""

    @property
    def shortage(self) -> str:
        """Of seeds for an interval; empty where there are enough."""
        return f"{self.seeds} of {FEWEST_SEEDS} seeds" if self.seeds < FEWEST_SEEDS else ""

    @property
    def verdict(self) -> str:
        if not self.seeds:
            return "not measured yet"
        if self.cell == ALL_SEVEN:
            return ""
        if self.interval is None:
            return f"{self.shortage or 'all seven parts lack seeds'}: too few to tell"
        if self.interval.low > 0:
            return "better without"
        return "worse without" if self.interval.high < 0 else "no difference seen"


def rows(
    summaries: Sequence[Summary], cells: Sequence[str], equal: Collection[str] = ()
) -> list[Row]:
    """One row a cell, in the order of `cells`; `equal` are those equal in effect."""
    runs = {cell: [s for s in summaries if s["cell"] == cell] for cell in cells}
    rates = {cell: [solve_rate(summary) for summary in runs[cell]] for cell in cells}
    intervals = simultaneous_intervals(rates, [ALL_SEVEN])
    pooled = simultaneous_intervals(rates, equal)
    return [_row(cell, runs[cell], rates, intervals.get(cell), pooled.get(cell)) for cell in cells]


def _row(
    cell: str,
    runs: Sequence[Summary],
    rates: Mapping[str, Sequence[float]],
    interval: Interval | None,
    beside_equal: Interval | None,
) -> Row:
    passes = [pass_rewards(summary) for summary in runs]
    compared = runs and rates[ALL_SEVEN] and cell != ALL_SEVEN
    return Row(
        cell=cell,
        seeds=len(runs),
        first_pass=fmean(first for first, _ in passes) if runs else None,
        last_pass=fmean(last for _, last in passes) if runs else None,
        trained=fmean(rates[cell]) if runs else None,
        difference=fmean(rates[cell]) - fmean(rates[ALL_SEVEN]) if compared else None,
        interval=interval,
        beside_equal=beside_equal,
    )


def solve_rate(summary: Summary) -> float:
    """Held-out solve rate after training: the mean over tasks of each task's own."""
    return fmean(fmean(scores) for scores in summary["trained"].values() if scores)


def simultaneous_intervals(
    rates: Mapping[str, Sequence[float]], controls: Collection[str]
) -> dict[str, Interval]:
    """cell -> difference of its mean to that of the controls' runs, where all have enough; `rates` has one value a run."""
    enough = {cell: values for cell, values in rates.items() if len(values) >= FEWEST_SEEDS}
    others = {cell: values for cell, values in enough.items() if cell not in controls}
    if not controls or not others or not enough.keys() >= set(controls):
        return {}
    control = [rate for cell in controls for rate in enough[cell]]
    # rng: the multivariate t is integrated by random points
    found = dunnett(*others.values(), control=control, rng=0).confidence_interval(0.95)
    return {
        cell: Interval(fmean(values) - fmean(control), float(low), float(high))
        for (cell, values), low, high in zip(others.items(), found.low, found.high, strict=True)
    }


def table(summaries: Sequence[Summary], cells: Sequence[str], equal: Collection[str] = ()) -> str:
    """Markdown, one row a cell; what is missing is a dash."""
    lines = [
        "| configuration | seeds | reward, first pass | last pass | held out, trained "
        "| difference to all seven (95 %) | what we saw | to all equal runs (95 %) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows(summaries, cells, equal):
        lines.append(
            f"| {row.cell} | {row.seeds or '–'} | {_number(row.first_pass)} | {_number(row.last_pass)} "
            f"| {_number(row.trained)} | {_difference(row.difference, row.interval)} | {row.verdict or '–'} "
            f"| {_difference(row.beside_equal and row.beside_equal.mean, row.beside_equal)} |"
        )
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _difference(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return "–"
    between = f" ({interval.low:+.2f} to {interval.high:+.2f})" if interval else ""
    return f"{value:+.2f}{between}"


def plot(summaries: Sequence[Summary], cells: Sequence[str]) -> str:
    """An SVG: a dot and its interval for every cell, on one axis with the line of no difference."""
    compared = [row for row in rows(summaries, cells) if row.cell != ALL_SEVEN]
    ends = [end for row in compared for end in row.interval or (row.difference or 0.0,)]
    reach = max([0.1, *(abs(end) for end in ends)]) * 1.1
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
        if row.interval:
            low, high = x(row.interval.low), x(row.interval.high)
            marks.append(
                f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="#4542cf" stroke-width="2"/>'
            )
        marks.append(f'<circle cx="{x(row.difference):.1f}" cy="{y}" r="4.5" fill="#4542cf"/>')
        note = f" ({row.shortage})" if row.shortage else ""
        marks.append(_text(WIDTH - RIGHT + 14, y + 4, f"{row.difference:+.2f}{note}"))
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
