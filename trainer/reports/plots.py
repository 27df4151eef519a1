"""Plots of a report as SVG, pure: their colours are classes s0, s1, ... that `SVG_STYLE` or a page's style sheet fills in."""

from collections.abc import Mapping, Sequence
from html import escape

from trainer.evaluations.summary import Part

COLOURS = (
    ("#1b2430", "#e4e9f0"),
    ("#66758a", "#8794a6"),
    ("#0a84a8", "#43a5c1"),
    ("#b0529c", "#dd8fcb"),
    ("#4542cf", "#a5a6ff"),
    ("#7c8a2e", "#b5c25f"),
    ("#a8673c", "#d99b70"),
)
"""(light, dark); after the last the second again, the first is pass@k's."""

SVG_STYLE = """
svg text { fill: var(--soft); }
.grid { stroke: var(--grid); }
.mark { fill: var(--series); }
.line { fill: none; stroke: var(--series); stroke-width: 1.8; }
"""

WIDTH, LEFT, RIGHT, TOP = 820, 48, 250, 12
PLOT = WIDTH - LEFT - RIGHT
HEIGHT = 280
ROW = 22
NAMES = 200
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def curves_plot(curves: Mapping[str, Sequence[float]]) -> str:
    """Lines against k, with a legend at the right; empty when there is nothing to draw."""
    longest = max(map(len, curves.values()), default=0)
    if longest < 2:
        return ""

    def x(k: int) -> float:
        return LEFT + PLOT * (k - 1) / (longest - 1)

    def y(share: float) -> float:
        return TOP + HEIGHT * (1 - share)

    step = max(1, longest // 8)
    parts = [_horizontal(y(share), f"{share:.0%}") for share in SHARES]
    parts += [
        _text(x(k), TOP + HEIGHT + 20, str(k), anchor="middle")
        for k in range(1, longest + 1)
        if k == 1 or k % step == 0
    ]
    parts.append(_text(LEFT + PLOT / 2, TOP + HEIGHT + 38, "k", anchor="middle"))
    for place, (name, values) in enumerate(curves.items()):
        points = [(x(k), y(value)) for k, value in enumerate(values, start=1)]
        parts.append(_series(place, name, points, values))
    return _svg(TOP + HEIGHT + 46, parts, "pass@k and best@k against k")


def standalone(svg: str) -> str:
    """A plot as a file of its own, light: with what it would have of a page's style sheet."""
    series = "".join(
        f".s{place} {{ --series: {light}; }}" for place, (light, _) in enumerate(COLOURS)
    )
    style = f"svg {{ --soft: #5a6675; --grid: #edf0f3; font: 12px Inter, system-ui, sans-serif; background: #ffffff; }}{series}"
    head, body = svg.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{style}{SVG_STYLE}</style>{body}\n'


def parts_plot(found: Sequence[Part]) -> str:
    """A mark and an interval a part; empty when there is none."""
    if not found:
        return ""
    span = WIDTH - NAMES - 40
    bottom = TOP + ROW * len(found)

    def x(share: float) -> float:
        return NAMES + span * share

    parts = []
    for share in SHARES:
        parts.append(
            f'<line class="grid" x1="{x(share):.1f}" x2="{x(share):.1f}" y1="{TOP}" y2="{bottom}"/>'
        )
        parts.append(_text(x(share), bottom + 16, f"{share:.0%}", anchor="middle"))
    for place, part in enumerate(found):
        low, high = part.estimate.interval
        level = TOP + ROW * (place + 0.5)
        told = f"{part.name}: {part.estimate.value:.1%}, {low:.1%} to {high:.1%}"
        parts.append(_text(NAMES - 10, level + 4, part.name, anchor="end"))
        parts.append(
            f'<g class="s4"><title>{escape(told)}</title>'
            f'<path class="line" d="M{x(low):.1f} {level:.1f}H{x(high):.1f}"/>'
            f'<circle class="mark" cx="{x(part.estimate.value):.1f}" cy="{level:.1f}" r="4"/></g>'
        )
    return _svg(bottom + 24, parts, "pass@1 by part")


def _series(
    place: int, name: str, points: Sequence[tuple[float, float]], values: Sequence[float]
) -> str:
    """A line with its points, which tell their value when pointed at, and its entry in the legend."""
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    marks = "".join(
        f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>'
        f"{escape(name)}, k = {k}: {value:.1%}</title></circle>"
        for k, ((x, y), value) in enumerate(zip(points, values, strict=True), start=1)
    )
    left, level = LEFT + PLOT + 20, TOP + 8 + 20 * place
    entry = f'<path class="line" d="M{left} {level}h18"/>' + _text(left + 26, level + 4, name)
    return f'<g class="s{_colour(place)}"><path class="line" d="M{path}"/>{marks}{entry}</g>'


def _colour(place: int) -> int:
    return place if place < len(COLOURS) else 1 + (place - 1) % (len(COLOURS) - 1)


def _horizontal(y: float, label: str) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{LEFT + PLOT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + _text(LEFT - 8, y + 4, label, anchor="end")


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: float, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )
