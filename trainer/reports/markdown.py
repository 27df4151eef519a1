"""A report as Markdown, for a pull request or a model card."""

from collections.abc import Sequence

from trainer.reports.content import Block, Bullets, Report, Table, Text


def markdown(report: Report) -> str:
    blocks = [f"# {report.title}", *map(_block, [report.head, *report.blocks])]
    return "\n\n".join(blocks) + "\n"


def _block(block: Block) -> str:
    match block:
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Table(head, rows):
            return _table(head, rows)
        case Text(text):
            return text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
