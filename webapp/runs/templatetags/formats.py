"""How numbers, times and icons read on every page. Plain formatting: nothing here queries."""

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from webapp.rollouts import plaintext

register = template.Library()

NOTHING = "–"


@register.simple_tag
def icon(name: str) -> SafeString:
    """A bootstrap icon; the word beside it carries the meaning."""
    return format_html('<i class="bi bi-{}" aria-hidden="true"></i>', name)


@register.filter
def starts(path: str, prefixes: str) -> bool:
    """Does `path` start with one of the comma-separated `prefixes`?"""
    return path.startswith(tuple(prefixes.split(",")))


@register.filter
def duration(seconds: float | None) -> str:
    """12.3 s, 4 min 05 s, 1 h 04 min, 2 d 3 h."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


@register.filter
def ago(moment: datetime | None) -> str | SafeString:
    """Relative time that ticks on the page, the absolute time on hover."""
    if moment is None:
        return NOTHING
    seconds = max(0, int((timezone.now() - moment).total_seconds()))
    return format_html(
        '<time datetime="{}" title="{}" data-ago>{} ago</time>',
        moment.isoformat(),
        absolute(moment),
        _largest_unit(seconds),
    )


@register.filter
def since(moment: datetime) -> SafeString:
    """Elapsed time that ticks on the page."""
    return format_html(
        '<time datetime="{}" title="since {}" data-since>{}</time>',
        moment.isoformat(),
        absolute(moment),
        duration((timezone.now() - moment).total_seconds()),
    )


@register.filter
def absolute(moment: datetime | None) -> str:
    if moment is None:
        return NOTHING
    return timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S %Z")


@register.filter
def decimal(value: float | str | None, places: int = 2) -> str:
    """A number that the template does not have (None, or nothing at all) is a dash."""
    return f"{value:.{places}f}" if isinstance(value, int | float) else NOTHING


@register.filter
def signed(value: float | None, places: int = 2) -> str:
    """With its sign, a true minus included."""
    return NOTHING if value is None else f"{value:+.{places}f}".replace("-", "−")


@register.filter
def compact(value: float | None) -> str:
    """Three significant figures: 0.00421, 12.3, 4,210, 1.2e-05."""
    if value is None:
        return NOTHING
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


@register.filter
def share(value: float | None) -> str:
    """0.125 is 12%."""
    return NOTHING if value is None else f"{value:.0%}"


@register.filter
def rate(value: float | str | None) -> str:
    """0.4219 is 42.2 %; what the template does not have is a dash."""
    return f"{100 * value:.1f} %" if isinstance(value, int | float) else NOTHING


@register.filter
def p_value(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


@register.filter
def points(value: float) -> str:
    """A difference of rates: `+3.1 points`, a true minus included."""
    return f"{100 * value:+.1f} points".replace("-", "−")


@register.filter
def points_bare(value: float) -> str:
    """A difference of rates where the unit stands elsewhere: `+3.1`."""
    return f"{100 * value:+.1f}".replace("-", "−")


@register.filter
def count(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


@register.filter
def gib(mib: float | None) -> str:
    return NOTHING if mib is None else f"{mib / 1024:.1f} GiB"


@register.filter
def percent(part: float, whole: float) -> float:
    """`part` of `whole` as 0 to 100."""
    return min(100.0, 100.0 * part / whole) if whole else 0.0


@register.filter
def plain(text: str | None) -> str:
    """Without escape sequences: for whatever an agent or a tool may have had a say in."""
    return plaintext.plain(str(text or ""))


@register.filter
def words(name: str) -> str:
    """max_turns -> max turns."""
    return name.replace("_", " ")


def _largest_unit(seconds: int) -> str:
    for floor, size, unit in ((172800, 86400, "d"), (3600, 3600, "h"), (60, 60, "min")):
        if seconds >= floor:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
