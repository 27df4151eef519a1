"""The reward strip: a group's rollouts as a row of cells. Pure: rows in, cells out.

A cell's height is its reward and its look is what became of the rollout, so the strip reads without
colour as well.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple

from django.urls import reverse

from webapp.rollouts.models import Rollout

Kind = Literal["passed", "failed", "filtered", "infra", "running", "cut"]

ICONS: dict[Kind, str] = {
    "passed": "check-circle-fill",
    "failed": "x-circle",
    "filtered": "slash-circle",
    "infra": "exclamation-triangle",
    "running": "arrow-repeat",
    "cut": "dash-circle",
}
WORDS: dict[Kind, str] = {
    "passed": "passed",
    "failed": "failed",
    "filtered": "filtered",
    "infra": "infra",
    "running": "in flight",
    "cut": "cut off",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    kind: Kind
    full: bool
    """Reward 1: the cell has full height."""
    title: str
    url: str
    id: str


class Rest(NamedTuple):
    """What a strip leaves out of a large step."""

    num: int
    url: str
    """Of the step, where all of them are."""


def kind_of(rollout: Rollout, run_live: bool = True) -> Kind:
    """What became of a rollout; one still open in a run that ended was cut off."""
    if rollout.finished_at is None:
        return "running" if run_live and not rollout.superseded else "cut"
    if rollout.outcome == "infra":
        return "infra"
    if rollout.filtered:
        return "filtered"
    return "passed" if rollout.reward else "failed"


def cell(rollout: Rollout, run_live: bool = True) -> Cell:
    kind = kind_of(rollout, run_live)
    parts = [f"{rollout.task} #{rollout.index}", WORDS[kind]]
    if rollout.reward is not None:
        parts.append(f"reward {rollout.reward:g}")
    if rollout.termination_reason:
        parts.append(rollout.termination_reason.replace("_", " "))
    if rollout.in_flight and rollout.num_turns:
        parts.append(f"turn {rollout.num_turns}")
    return Cell(
        kind=kind,
        full=bool(rollout.reward),
        title=" · ".join(parts),
        url=reverse("rollouts:rollout", args=[rollout.id]),
        id=str(rollout.id),
    )


def strip(rollouts: Iterable[Rollout], run_live: bool = True) -> list[list[Cell]]:
    """One list of cells a group: groups by task, cells by index."""
    ordered = sorted(rollouts, key=lambda r: (r.task, str(r.group_id), r.index))
    return [
        [cell(rollout, run_live) for rollout in members]
        for _, members in groupby(ordered, key=lambda r: r.group_id)
    ]


def rest_of(rollouts: Sequence[Rollout]) -> Rest | None:
    """None where all are there. Only `RolloutQuerySet.first_of_each_run` leaves some out."""
    num = getattr(rollouts[0], "num_in_run", 0) - len(rollouts) if rollouts else 0
    if num <= 0:
        return None
    return Rest(num, reverse("runs:step", args=[rollouts[0].run_id, rollouts[0].step]))
