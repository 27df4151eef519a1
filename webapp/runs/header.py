"""What the header of every page of a run shows: its state, its numbers, the newest strip, its
alarms.
"""

from typing import Any, NamedTuple

from django.contrib.auth.models import AnonymousUser, User

from webapp.rollouts.models import Group, Rollout
from webapp.runs import lifecycle, placement
from webapp.runs.headline import headline
from webapp.runs.models import Run, RunEvaluation, Step

HEAVY = ("patch", "tests", "files", "reason")
"""Columns of a rollout that tables and strips do without."""


class CountedRows(NamedTuple):
    """Rows that no later attempt superseded, oldest first."""

    steps: list[Step]
    evaluations: list[RunEvaluation]


def counted_rows(run: Run) -> CountedRows:
    return CountedRows(
        list(run.steps.filter(superseded=False).order_by("step")),
        list(run.evaluations.filter(superseded=False).order_by("step")),
    )


def header(user: User | AnonymousUser, run: Run, rows: CountedRows | None = None) -> dict[str, Any]:
    """The context of `runs/_header.html`; `rows` where the page has read them already."""
    counted = rows or counted_rows(run)
    newest = _newest_step_rollouts(run)
    return {
        "run": run,
        "headline": headline(run, counted.steps, counted.evaluations),
        "strip_step": newest[0].step if newest else None,
        "strip_rollouts": newest,
        "alarms": sorted(run.alarms.values(), key=lambda alarm: -alarm["step"]),
        "waiting": placement.waiting_for(run),
        "may_change": lifecycle.may_change(user, run),
        "num_in_flight": run.rollouts.in_flight().count() if run.is_live else 0,
    }


def _newest_step_rollouts(run: Run) -> list[Rollout]:
    groups = Group.objects.filter(run=run, purpose="train", superseded=False)
    newest = groups.order_by("-step").values("step")[:1]
    rows = Rollout.objects.filter(run=run, purpose="train", superseded=False, step=newest)
    return list(rows.defer(*HEAVY))
