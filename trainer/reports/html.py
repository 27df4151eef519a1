"""A report as one HTML page with plots: nothing to fetch, no script, light and dark, a few kilobytes."""

from collections.abc import Sequence
from html import escape

from trainer.reports.content import Block, Bullets, Report, Table, Text
from trainer.reports.plots import COLOURS, SVG_STYLE, curves_plot, parts_plot

_SERIES = "".join(
    f".s{place} {{ --series: {light}; }}\n" for place, (light, _) in enumerate(COLOURS)
)
_SERIES_DARK = "".join(
    f".s{place} {{ --series: {dark}; }}\n" for place, (_, dark) in enumerate(COLOURS)
)
STYLE = f"""
:root {{ color-scheme: light dark; --ink: #1b2430; --soft: #5a6675; --line: #d8dee6; --grid: #edf0f3; --paper: #ffffff; }}
{_SERIES}
@media (prefers-color-scheme: dark) {{
:root {{ --ink: #e4e9f0; --soft: #9aa6b5; --line: #323c49; --grid: #232c37; --paper: #11161d; }}
{_SERIES_DARK}}}
body {{ margin: 0 auto; max-width: 860px; padding: 24px 16px 48px; background: var(--paper); color: var(--ink);
  font: 14px/1.5 Inter, system-ui, sans-serif; }}
h1 {{ font-size: 20px; overflow-wrap: anywhere; }}
h2 {{ font-size: 14px; margin: 24px 0 4px; }}
figure {{ margin: 0; overflow-x: auto; }}
.scroll {{ overflow-x: auto; margin: 20px 0; }}
table {{ border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: 4px 16px 4px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }}
th {{ color: var(--soft); font-weight: 500; }}
p {{ color: var(--soft); }}
svg {{ font-size: 12px; max-width: 100%; min-width: 460px; height: auto; }}
{SVG_STYLE}"""


def html(report: Report) -> str:
    """The whole page. What a model or a taskset is called is text, never markup."""
    plots = [
        _figure("Solved against k", curves_plot(report.curves)),
        _figure("pass@1 by part, 95 % intervals clustered by task", parts_plot(report.parts)),
    ]
    body = [_block(report.head), *plots, *map(_block, report.blocks)]
    title = escape(report.title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def _figure(title: str, svg: str) -> str:
    return f"<h2>{escape(title)}</h2>\n<figure>{svg}</figure>" if svg else ""


def _block(block: Block) -> str:
    match block:
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
        case Table(head, rows):
            lines = [_row("th", head), *(_row("td", row) for row in rows)]
            return '<div class="scroll"><table>' + "\n".join(lines) + "</table></div>"
        case Text(text):
            return f"<p>{escape(text)}</p>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
