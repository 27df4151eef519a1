"""A tiny stacked bar of two parts, as SVG: numbers only, so nothing here can carry hostile text."""

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag
def two_bars(first: float, second: float, most: float, css1: str, css2: str) -> SafeString:
    """`first` then `second`, where `most` fills the width."""
    one, two = (round(100 * value / most, 2) if most else 0 for value in (first, second))
    return format_html(
        '<svg class="token-bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="{}" width="{}" height="10"/>'
        '<rect class="{}" x="{}" width="{}" height="10"/></svg>',
        css1, one, css2, one, two,
    )  # fmt: skip
