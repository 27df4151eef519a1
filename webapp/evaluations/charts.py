"""An evaluation's summary to Plotly figures. Pure, in the manner of `webapp.runs.charts`."""

from collections.abc import Mapping, Sequence
from itertools import chain, cycle
from typing import Any

from trainer.evaluations.estimates import Estimate
from trainer.evaluations.methods import RANDOM
from trainer.evaluations.summary import PASS, Part, Summary
from webapp.runs.charts import TERMINATION_COLOURS, Chart, Figure

CURVES = Chart(
    "curves", "Solved against k", "pass@k: any of k rollouts; best@k: the one that a rule picks"
)
ENDINGS = Chart("endings", "Ended by", "rollouts by termination reason")
PARTS = Chart("parts", "pass@1 by part", "95 % intervals, clustered by task")
LIMITS = Chart(
    "limits", "Solved against the context limit", "pass@1 with 95 % intervals, clustered by task"
)
COLOURS = ("var(--ink)", *(f"var(--series-{number})" for number in (6, 2, 3, 1, 4, 5)))
"""One after the other, and again from the second: the first is pass@k's."""
MAX_PARTS = 24
MAX_IN_LEGEND = 5
"""Of more lines the page lists the names below: a legend inside would leave no room for them."""


def figures(summary: Summary, lines: Mapping[str, Sequence[float]]) -> dict[str, Figure]:
    """`lines` are pass@k and best@k by method."""
    return {
        CURVES.name: curves(lines),
        ENDINGS.name: endings(summary.endings),
        PARTS.name: parts(shown_parts(summary)),
    }


def charts_of(summary: Summary) -> list[Chart]:
    """Those that say something; one repository or band alone does not."""
    return [CURVES, PARTS, ENDINGS] if shown_parts(summary) else [CURVES, ENDINGS]


def shown_parts(summary: Summary) -> list[Part]:
    """Bands and repositories where there are several, and few enough to read."""
    kinds = (summary.by_difficulty, summary.by_repository)
    return [part for parts in kinds if 1 < len(parts) <= MAX_PARTS for part in parts]


def curves(values: Mapping[str, Sequence[float]]) -> Figure:
    colours = chain(COLOURS, cycle(COLOURS[1:]))
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name if name == PASS else f"best@k, {name}",
            "x": list(range(1, len(line) + 1)),
            "y": [round(value, 5) for value in line],
            "line": {"color": colour, "width": 1.8, "dash": "dot" if name == RANDOM else "solid"},
            "marker": {"size": 5, "color": colour},
        }
        for colour, (name, line) in zip(colours, values.items(), strict=False)
        if line
    ]
    x = {"title": {"text": "k"}, "tickformat": "d", "dtick": 1 if _longest(values) < 20 else None}
    figure = _figure(traces, x=x, y={"tickformat": ".0%", "range": [0, 1.02]})
    if len(traces) > MAX_IN_LEGEND:
        figure["layout"]["showlegend"] = False
    return figure


def comparison(first: Summary, second: Summary, names: tuple[str, str]) -> Figure:
    """pass@k of two evaluations."""
    lines = dict(zip(names, (first.curves.get(PASS, []), second.curves.get(PASS, [])), strict=True))
    figure = curves(lines)
    for trace, name in zip(figure["data"], [n for n, line in lines.items() if line], strict=True):
        trace["name"] = name
    return figure


def against_limit(points: Sequence[tuple[int, Estimate]]) -> Figure:
    """pass@1 with its interval against the context limit in tokens, on a logarithmic axis."""
    estimates = [estimate for _, estimate in points]
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "pass@1",
        "x": [limit for limit, _ in points],
        "y": [round(estimate.value, 5) for estimate in estimates],
        "hovertemplate": "%{y:.1%} at %{x:,} tokens<extra></extra>",
        "line": {"color": "var(--series-1)", "width": 1.8},
        "marker": {"color": "var(--series-1)", "size": 7},
        "error_y": _error_bars(estimates),
    }
    limits = [limit for limit, _ in points]
    x = {"type": "log", "tickvals": limits, "ticktext": [f"{limit:,}" for limit in limits]}
    figure = _figure(
        [trace] if points else [],
        x=x | {"title": {"text": "tokens after the prompt"}},
        y={"tickformat": ".0%", "range": [0, 1.02]},
    )
    figure["layout"]["hovermode"] = "closest"
    return figure


def endings(counts: Mapping[str, int]) -> Figure:
    total = sum(counts.values())
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": reason.replace("_", " "),
            "x": [count / total],
            "y": [""],
            "marker": {"color": TERMINATION_COLOURS.get(reason, "var(--filtered)")},
            "hovertemplate": f"{count} rollouts<extra>%{{fullData.name}}</extra>",
        }
        for reason, count in counts.items()
    ]
    figure = _figure(traces, x={"tickformat": ".0%", "range": [0, 1.01]}, y={"visible": False})
    layout = {"barmode": "stack", "hovermode": "closest", "bargap": 0.4, "showlegend": True}
    figure["layout"] |= layout
    return figure


def parts(found: Sequence[Part]) -> Figure:
    trace = {
        "type": "scatter",
        "mode": "markers",
        "name": "pass@1",
        "x": [round(part.estimate.value, 5) for part in found],
        "y": [part.name for part in found],
        "customdata": [part.estimate.num_tasks for part in found],
        "hovertemplate": "%{x:.1%}, %{customdata} tasks<extra>%{y}</extra>",
        "marker": {"color": "var(--series-1)", "size": 7},
        "error_x": _error_bars([part.estimate for part in found]),
    }
    figure = _figure(
        [trace] if found else [],
        x={"tickformat": ".0%", "range": [0, 1.01]},
        y={"autorange": "reversed", "rangemode": "normal"},
    )
    figure["layout"]["hovermode"] = "closest"
    return figure


def _error_bars(estimates: Sequence[Estimate]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [estimate.interval.high - estimate.value for estimate in estimates],
        "arrayminus": [estimate.value - estimate.interval.low for estimate in estimates],
        "color": "var(--series-1)",
        "thickness": 1,
    }


def _longest(values: Mapping[str, Sequence[float]]) -> int:
    return max(map(len, values.values()), default=0)


def _figure(traces: list[dict[str, Any]], *, x: dict[str, Any], y: dict[str, Any]) -> Figure:
    axis = {"gridcolor": "var(--grid)", "zerolinecolor": "var(--line)", "automargin": True}
    return {
        "data": traces,
        "layout": {
            "xaxis": axis | {"zeroline": False} | x,
            "yaxis": axis | {"nticks": 6, "rangemode": "tozero"} | y,
            "showlegend": len(traces) > 1,
            "uirevision": "evaluation",
        },
    }
