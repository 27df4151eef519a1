"""Tables in documents, each between two marks of its name, written by the benchmark that measured it."""

import re
from pathlib import Path

import click


def put(doc: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->` in `doc`. Raises ClickException without the marks."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    between = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    written, count = between.subn(lambda _: start + text + end, doc.read_text())
    if not count:
        raise click.ClickException(f"{doc.name}: the marks {start.strip()} and {end} are missing")
    doc.write_text(written)
