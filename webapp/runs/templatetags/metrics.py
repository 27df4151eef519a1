"""A step's metrics in templates."""

from django import template

from webapp.runs.models import Step

register = template.Library()


@register.filter
def metric(step: Step, name: str) -> float | None:
    return step.metric(name)


@register.filter
def all_metrics(step: Step) -> list[tuple[str, float | None]]:
    """Every metric by name, in the order of names."""
    return [(name, step.metric(name)) for name in sorted(step.metrics)]
