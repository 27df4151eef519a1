"""Sortable column heads: links that keep the rest of the address."""

from typing import Any

from django import template

register = template.Library()


@register.inclusion_tag("runs/_sort_header.html", takes_context=True)
def sort_header(context: dict[str, Any], column: str, word: str, css: str = "") -> dict[str, Any]:
    """The other direction when the column is the order already; numbers and times begin with the
    largest.
    """
    current = str(context.get("sort", ""))
    first = column if column in ("name", "status", "recipe") else f"-{column}"
    other = column if first.startswith("-") else f"-{column}"
    active = current.lstrip("-") == column
    query = context["request"].GET.copy()
    query["sort"] = other if current == first else first
    query.pop("page", None)
    direction = "descending" if current.startswith("-") else "ascending"
    return {
        "word": word,
        "css": css,
        "url": "?" + query.urlencode(),
        "direction": direction if active else "",
    }
