"""What the header of every page of a run shows: its state, its numbers, the newest strip, its
alarms.
"""

from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db.models.fields.json import KeyTransform

from webapp.rollouts.models import Group, Rollout
from webapp.runs import lifecycle, placement
from webapp.runs.headline import Measured, headline
from webapp.runs.models import Run


def header(user: User | AnonymousUser, run: Run) -> dict[str, Any]:
    """The context of `runs/_header.html`. Reads of each step its reward and time, not its metrics."""
    newest = _newest_step_rollouts(run)
    evaluations = run.evaluations.filter(superseded=False).order_by("step").defer("scores")
    return {
        "run": run,
        "headline": headline(run, _measured(run), list(evaluations)),
        "strip_step": newest[0].step if newest else None,
        "strip_rollouts": newest,
        "alarms": sorted(run.alarms.values(), key=lambda alarm: -alarm["step"]),
        "waiting": placement.waiting_for(run),
        "may_change": lifecycle.may_change(user, run),
        "num_in_flight": run.rollouts.in_flight().count() if run.is_live else 0,
    }


def _measured(run: Run) -> list[Measured]:
    steps = run.steps.filter(superseded=False).order_by("step")
    pairs = steps.values_list(KeyTransform("reward/mean", "metrics"), "seconds")
    return [Measured(p[0] / p[1] if p and p[1] else None, seconds) for p, seconds in pairs]


def _newest_step_rollouts(run: Run) -> list[Rollout]:
    groups = Group.objects.filter(run=run, purpose="train", superseded=False)
    newest = groups.order_by("-step").values("step")[:1]
    rows = Rollout.objects.filter(run=run, purpose="train", superseded=False, step=newest)
    return list(rows.light().first_of_each_run())
