"""Tags for what became of a rollout: the reward strip, and the outcome with icon and word."""

from collections.abc import Sequence
from typing import Any

from django import template

from webapp.rollouts.models import Rollout
from webapp.rollouts.strips import ICONS, WORDS, kind_of, rest_of, strip

register = template.Library()


@register.inclusion_tag("rollouts/_strip.html")
def reward_strip(
    rollouts: Sequence[Rollout], size: str = "", live: bool = True, here: object = ""
) -> dict[str, Any]:
    """Cells of `rollouts`, grouped. `size` is list, large or empty; `here` is the id of the rollout
    on the page.
    """
    return {
        "groups": strip(rollouts, live),
        "rest": rest_of(rollouts),
        "size": size,
        "here": str(here),
    }


@register.inclusion_tag("rollouts/_outcome.html")
def outcome(rollout: Rollout, live: bool = True) -> dict[str, Any]:
    kind = kind_of(rollout, live)
    return {"kind": kind, "icon": ICONS[kind], "word": WORDS[kind]}
