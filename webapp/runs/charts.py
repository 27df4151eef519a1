"""Rows of a run to Plotly figures. Pure: no query, no request, no colour but by name.

A figure is the plain data that Plotly reads. Colours are the page's own variables
(`var(--passed)`), which the page resolves in its theme. A trace holds at most MAX_POINTS points;
every point carries its step, so that a click leads to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, NamedTuple

from trainer.metrics.alarms import RULES
from webapp.runs.models import RunEvaluation, Step

MAX_POINTS = 1000
MISMATCH_LIMIT = 0.02
"""Mean |difference| of log-probability above which sampler and trainer disagree too much."""

LIMITS = {rule.name: rule.limit for rule in RULES}
"""From which value on an alarm is raised."""

Figure = dict[str, Any]
Values = Sequence[float | None]


class Chart(NamedTuple):
    """One place on the page: the figure of the same name goes there."""

    name: str
    title: str
    hint: str


SECTIONS: list[tuple[str, list[Chart]]] = [
    (
        "Learning",
        [
            Chart("reward", "Reward", "mean of each step's rollouts; diamonds are held-out tasks"),
            Chart(
                "solved", "Groups solved", "share of groups with none, some or all rollouts passed"
            ),
        ],
    ),
    (
        "Stability",
        [
            Chart("mismatch", "Sampler against trainer", "mean |Δ log-probability|, limit 0.02"),
            Chart("kl", "KL, sampler to trainer", "nats a token, alarm above 0.01"),
            Chart("clip", "Clipped tokens", "share of loss tokens beyond each clip ratio"),
            Chart("entropy", "Entropy", "nats a token, of the trained policy"),
            Chart("grad_norm", "Gradient norm", "before clipping"),
            Chart(
                "filtered", "Filtered", "share of rollouts, and of solutions, that train nothing"
            ),
        ],
    ),
    (
        "Rollouts",
        [
            Chart("termination", "Ended by", "share of rollouts by termination reason"),
            Chart("lengths", "Length", "tokens a rollout"),
            Chart("turns", "Turns", "mean a rollout"),
            Chart("tool_errors", "Tool errors", "share of turns whose call failed"),
        ],
    ),
    (
        "Time",
        [
            Chart("phases", "Time by phase", "seconds of each step"),
            Chart("throughput", "Throughput", "tokens a second"),
            Chart("idle", "Idle", "share of a step in which engine or trainer waited"),
            Chart("mfu", "MFU", "the update's share of the device's own matrix products"),
        ],
    ),
]

PHASES = ("rollout", "score", "update", "sync", "evaluate", "checkpoint")
TERMINATION_COLOURS = {
    "finished": "var(--series-2)",
    "max_turns": "var(--filtered)",
    "max_context": "var(--series-5)",
    "timeout": "var(--series-4)",
    "agent_fault": "var(--failed)",
    "infra": "var(--infra-cell)",
}


@dataclass(frozen=True, kw_only=True)
class Axes:
    """How the reader wants to see the curves."""

    x: Literal["step", "time"] = "step"
    smoothing: float = 0.0
    """Weight of the past in the exponential moving average, 0 to below 1."""
    log: bool = False
    """Logarithmic y axis, where the values allow it."""


@dataclass(frozen=True)
class Curves:
    """The rows that figures are made of, on one x axis."""

    steps: Sequence[Step]
    evaluations: Sequence[RunEvaluation]
    axes: Axes
    num_steps: int

    @cached_property
    def began(self) -> float:
        """When the first row did, in Unix seconds."""
        rows: list[Step | RunEvaluation] = [*self.steps, *self.evaluations]
        return min(row.time.timestamp() - row.seconds for row in rows)


def run_figures(curves: Curves) -> dict[str, Figure]:
    """Every chart's figure by name. Rows are those that count, in the order of their steps."""
    return {name: build(curves) for name, build in BUILDERS.items()}


def reward(curves: Curves) -> Figure:
    traces = _smoothed(curves, "reward/mean", "train", "var(--ink)")
    if curves.evaluations:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": "held-out",
                "x": [_x(curves, row.step, row.time) for row in curves.evaluations],
                "y": [round(row.mean_reward, 5) for row in curves.evaluations],
                "customdata": [row.step for row in curves.evaluations],
                "line": {"color": "var(--accent)", "width": 1.5, "dash": "dot"},
                "marker": {"symbol": "diamond", "size": 9, "color": "var(--accent)"},
            }
        )
    return _figure(curves, traces, y={"range": [0, 1.02]})


def solved(curves: Curves) -> Figure:
    parts = (
        ("all", "solved/all", "var(--passed-cell)"),
        ("some", "solved/some", "var(--series-2)"),
        ("none", "solved/none", "var(--filtered)"),
    )
    traces = [_bars(curves, name, metric, colour) for name, metric, colour in parts]
    return _figure(curves, traces, stacked=True, y={"range": [0, 1], "tickformat": ".0%"})


def mismatch(curves: Curves) -> Figure:
    return _limited(curves, "|Δ log p|", "mismatch/abs_diff", MISMATCH_LIMIT)


def kl(curves: Curves) -> Figure:
    return _limited(curves, "KL", "mismatch/kl", LIMITS["mismatch"])


def clip(curves: Curves) -> Figure:
    low = ("low", "clip/low", "var(--series-2)")
    return _plain(curves, low, ("high", "clip/high", "var(--series-3)"), y={"tickformat": "~%"})


def entropy(curves: Curves) -> Figure:
    return _plain(curves, ("entropy", "entropy", "var(--series-1)"))


def grad_norm(curves: Curves) -> Figure:
    return _plain(curves, ("gradient norm", "grad_norm", "var(--series-1)"))


def filtered(curves: Curves) -> Figure:
    rollouts = ("rollouts", "filtered/fraction", "var(--filtered)")
    solutions = ("solutions", "filtered/solved", "var(--series-2)")
    return _plain(curves, rollouts, solutions, y={"tickformat": "~%", "range": [0, 1.02]})


def termination(curves: Curves) -> Figure:
    traces = [
        _bars(curves, reason.replace("_", " "), f"termination/{reason}", colour)
        for reason, colour in TERMINATION_COLOURS.items()
        if any(row.metric(f"termination/{reason}") for row in curves.steps)
    ]
    return _figure(curves, traces, stacked=True, y={"range": [0, 1], "tickformat": ".0%"})


def lengths(curves: Curves) -> Figure:
    sampled = ("sampled", "tokens/sampled", "var(--series-1)")
    return _plain(curves, ("response", "tokens/response", "var(--series-2)"), sampled)


def turns(curves: Curves) -> Figure:
    return _plain(curves, ("turns", "turns/mean", "var(--series-1)"))


def tool_errors(curves: Curves) -> Figure:
    series = ("tool errors", "tool/error_rate", "var(--series-5)")
    return _plain(curves, series, y={"tickformat": "~%", "range": [0, 1]})


def phases(curves: Curves) -> Figure:
    rows = strided(curves.steps)
    traces = [
        _bar_trace(
            curves, phase, rows, [row.phases.get(phase) for row in rows], f"var(--series-{i})"
        )
        for i, phase in enumerate(PHASES, start=1)
        if any(row.phases.get(phase) for row in rows)
    ]
    return _figure(curves, traces, stacked=True, y={"ticksuffix": " s"})


def throughput(curves: Curves) -> Figure:
    sampled = ("sampled", "perf/sampled_tokens_per_s", "var(--series-1)")
    return _plain(curves, sampled, ("trained", "perf/trained_tokens_per_s", "var(--series-2)"))


def idle(curves: Curves) -> Figure:
    engine = ("engine", "idle/engine", "var(--series-1)")
    trainer = ("trainer", "idle/trainer", "var(--series-2)")
    return _plain(curves, engine, trainer, y={"tickformat": "~%", "range": [0, 1.02]})


def mfu(curves: Curves) -> Figure:
    return _plain(curves, ("MFU", "perf/mfu", "var(--series-2)"), y={"tickformat": "~%"})


BUILDERS: dict[str, Callable[[Curves], Figure]] = {
    "reward": reward,
    "solved": solved,
    "mismatch": mismatch,
    "kl": kl,
    "clip": clip,
    "entropy": entropy,
    "grad_norm": grad_norm,
    "filtered": filtered,
    "termination": termination,
    "lengths": lengths,
    "turns": turns,
    "tool_errors": tool_errors,
    "phases": phases,
    "throughput": throughput,
    "idle": idle,
    "mfu": mfu,
}


def smooth(values: Values, weight: float) -> list[float | None]:
    """Exponential moving average, corrected for its start; gaps stay gaps."""
    total = norm = 0.0
    result: list[float | None] = []
    for value in values:
        if value is None:
            result.append(None)
            continue
        total = weight * total + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        result.append(total / norm)
    return result


def thin(values: Values, limit: int = MAX_POINTS) -> list[int]:
    """Indexes of at most `limit` points: each stretch keeps its lowest and highest, so no spike is
    lost.
    """
    if len(values) <= limit:
        return list(range(len(values)))
    kept: set[int] = set()
    stretches = limit // 2
    for stretch in range(stretches):
        start, end = (len(values) * part // stretches for part in (stretch, stretch + 1))
        known = [i for i in range(start, end) if values[i] is not None]
        if known:
            kept |= {min(known, key=lambda i: values[i] or 0.0)}
            kept |= {max(known, key=lambda i: values[i] or 0.0)}
    return sorted(kept)


def strided(rows: Sequence[Step], limit: int = MAX_POINTS) -> list[Step]:
    """Every n-th row, so that at most `limit` are left; the newest stays."""
    stride = -(-len(rows) // limit) or 1
    return list(reversed(rows[::-1][::stride]))


def sparkline(values: Sequence[float], width: float = 112, height: float = 24) -> str:
    """An SVG path of values between 0 and 1; empty for fewer than two."""
    if len(values) < 2:
        return ""
    picked = [values[i] for i in thin(values, 100)]
    gap = width / (len(picked) - 1)
    points = (f"{i * gap:.1f} {height - v * height:.1f}" for i, v in enumerate(picked))
    return "M" + "L".join(points)


def _plain(
    curves: Curves, *series: tuple[str, str, str], y: dict[str, Any] | None = None
) -> Figure:
    """Lines of (name, metric, colour)."""
    traces = [
        trace
        for name, metric, colour in series
        for trace in _smoothed(curves, metric, name, colour)
    ]
    return _figure(curves, traces, y=y)


def _limited(curves: Curves, name: str, metric: str, limit: float) -> Figure:
    """One line, and a dashed one at the limit, which is always in view."""
    top = max([limit, *(row.metric(metric) or 0.0 for row in curves.steps)]) * 1.15
    figure = _plain(curves, (name, metric, "var(--series-1)"), y={"range": [0, top]})
    dashed = {"color": "var(--infra-cell)", "width": 1, "dash": "dash"}
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": limit, "y1": limit}
    figure["layout"]["shapes"] = [line | {"line": dashed}]
    return figure


def _smoothed(curves: Curves, metric: str, name: str, colour: str) -> list[dict[str, Any]]:
    """The metric's line; when smoothing, the values behind it stay as a faint one."""
    values = [row.metric(metric) for row in curves.steps]
    if not any(value is not None for value in values):
        return []
    if not curves.axes.smoothing:
        return [_line(curves, name, values, colour)]
    faint = _line(curves, name, values, colour)
    faint |= {"opacity": 0.3, "showlegend": False, "hoverinfo": "skip"}
    return [faint, _line(curves, name, smooth(values, curves.axes.smoothing), colour)]


def _line(curves: Curves, name: str, values: Values, colour: str) -> dict[str, Any]:
    kept = thin(values)
    rows = [curves.steps[i] for i in kept]
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(rows) <= 60 else "lines",
        "name": name,
        "x": [_x(curves, row.step, row.time) for row in rows],
        "y": [_rounded(values[i]) for i in kept],
        "customdata": [row.step for row in rows],
        "line": {"color": colour, "width": 1.8},
        "marker": {"size": 4, "color": colour},
    }


def _bars(curves: Curves, name: str, metric: str, colour: str) -> dict[str, Any]:
    rows = strided(curves.steps)
    return _bar_trace(curves, name, rows, [row.metric(metric) for row in rows], colour)


def _bar_trace(
    curves: Curves, name: str, rows: Sequence[Step], values: Values, colour: str
) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": name,
        "x": [_x(curves, row.step, row.time) for row in rows],
        "y": [_rounded(value) for value in values],
        "customdata": [row.step for row in rows],
        "marker": {"color": colour, "line": {"width": 0}},
    }


def _figure(
    curves: Curves,
    traces: list[dict[str, Any]],
    *,
    y: dict[str, Any] | None = None,
    stacked: bool = False,
) -> Figure:
    axis = {"gridcolor": "var(--grid)", "zerolinecolor": "var(--line)", "automargin": True}
    layout: dict[str, Any] = {
        "xaxis": axis | {"showgrid": False, "zeroline": False} | _x_axis(curves),
        "yaxis": axis | {"nticks": 6, "rangemode": "tozero"} | (y or {}),
        "showlegend": sum(trace.get("showlegend", True) for trace in traces) > 1,
        "uirevision": f"{curves.axes.x}-{curves.axes.log}",
    }
    if curves.axes.log and not stacked:
        layout["yaxis"] = axis | {"nticks": 6, "type": "log"}
    if stacked:
        layout |= {"barmode": "stack", "bargap": 0.18}
    return {"data": traces, "layout": layout}


def _x_axis(curves: Curves) -> dict[str, Any]:
    if curves.axes.x == "time":
        return {"title": {"text": "minutes"}, "rangemode": "tozero"}
    last = curves.steps[-1].step if curves.steps else 0
    # Room for what is to come, but never a long run's first points squeezed into a corner.
    end = min(curves.num_steps, max(16, last + last // 4))
    return {"title": {"text": "step"}, "range": [-0.4, end + 0.6], "tickformat": "d"}


def _x(curves: Curves, step: int, moment: datetime) -> float:
    """The step, or minutes since the first row began."""
    if curves.axes.x == "step":
        return step
    return round((moment.timestamp() - curves.began) / 60, 3)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
