"""A plot of shares against k as an SVG, for pages that cannot run a script. Pure: data in, text out."""

from collections.abc import Callable, Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 220, 44, 44
"""Of the margins, in pixels; the names of the lines stand in the right one."""
COLOURS = ("#171b21", "#c2410c", "#0e7490", "#4542cf", "#8a94a3", "#b3397f", "#4d7c0f")
APART = 16
"""Pixels between two names."""


def line_plot(lines: Mapping[str, Sequence[float]], *, title: str) -> str:
    """Each line's share (0 to 1) at k = 1, 2, ..., its name beside its end."""
    longest = max(map(len, lines.values()))
    top = max(0.1, *(max(values) for values in lines.values())) * 1.1

    def x(k: int) -> float:
        return LEFT + (k - 1) / max(1, longest - 1) * (WIDTH - LEFT - RIGHT)

    def y(share: float) -> float:
        return HEIGHT - BOTTOM - share / top * (HEIGHT - TOP - BOTTOM)

    marks = [_grid(y, top), *(_text(x(k), HEIGHT - 20, str(k), "middle") for k in _ticks(longest))]
    marks.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "k", "middle"))
    colours = dict(zip(lines, COLOURS, strict=False))
    for name, values in lines.items():
        points = " ".join(f"{x(k):.1f},{y(v):.1f}" for k, v in enumerate(values, 1))
        marks.append(
            f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="2"/>'
        )
    for name, place in _spread({name: y(values[-1]) for name, values in lines.items()}).items():
        label = f"{name}  {lines[name][-1]:.1%}"
        marks.append(_text(WIDTH - RIGHT + 12, place + 4, label, colour=colours[name]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
        f'font-family="Inter, system-ui, sans-serif" font-size="13">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n'
        + _text(14, 22, title)
        + "\n"
        + "\n".join(marks)
        + "\n</svg>\n"
    )


def _ticks(longest: int) -> list[int]:
    return [k for k in range(1, longest + 1) if longest <= 16 or k == 1 or k % 8 == 0]


def _grid(y: Callable[[float], float], top: float) -> str:
    step = 0.05 if top < 0.4 else 0.2
    marks = []
    for number in range(int(top / step) + 1):
        height = y(number * step)
        marks.append(
            f'<line x1="{LEFT}" y1="{height:.1f}" x2="{WIDTH - RIGHT}" y2="{height:.1f}" stroke="#e3e6ea"/>'
        )
        marks.append(_text(LEFT - 8, height + 4, f"{number * step:.0%}", "end"))
    return "\n".join(marks)


def _spread(places: Mapping[str, float]) -> dict[str, float]:
    """The same order from top to bottom, no two closer than `APART`."""
    spread: dict[str, float] = {}
    last = float("-inf")
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        last = spread[name] = max(place, last + APART)
    return spread


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "#4b5563") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
