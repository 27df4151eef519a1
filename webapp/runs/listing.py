"""The run list: filters and order from the address, and what each row shows. The number of queries
is fixed.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import F, FloatField, OuterRef, QuerySet, Subquery
from django.db.models.fields.json import KT, KeyTransform
from django.db.models.functions import Cast, NullIf
from django.http import QueryDict

from webapp.rollouts.models import Rollout
from webapp.runs.charts import sparkline
from webapp.runs.models import Run, RunQuerySet, Step

PAGE_SIZE = 25
SORTS = {
    "name": "name",
    "status": "status",
    "progress": "current_step",
    "reward": "last_reward",
    "recipe": "recipe",
    "age": "created_at",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    run: Run
    reward: float | None
    change: float | None
    spark: str
    rollouts: list[Rollout]
    """Of the last step that ended, the first ones."""


def filtered_runs(query: QueryDict) -> RunQuerySet:
    """Runs that the address asks for, in its order; newest first when it asks for none."""
    runs: RunQuerySet = Run.objects.select_related("owner", "worker").defer("config")
    if status := query.get("status"):
        runs = runs.filter(status=status)
    if recipe := query.get("recipe"):
        runs = runs.filter(recipe=recipe)
    if text := query.get("q"):
        runs = runs.filter(name__icontains=text)
    return _sorted(runs, query.get("sort", "-age"))


def _sorted(runs: RunQuerySet, sort: str) -> RunQuerySet:
    column = SORTS.get(sort.lstrip("-"), "created_at")
    if column == "last_reward":
        runs = runs.annotate(last_reward=Subquery(_last_reward()))
    order = F(column).desc(nulls_last=True) if sort[:1] == "-" else F(column).asc(nulls_last=True)
    return runs.order_by(order, "-created_at")


def _last_reward() -> "QuerySet[Step, Any]":
    part = {i: Cast(KT(f"metrics__reward/mean__{i}"), FloatField()) for i in (0, 1)}
    rows = Step.objects.filter(run=OuterRef("pk"), superseded=False).order_by("-step")
    return rows.annotate(value=part[0] / NullIf(part[1], 0.0)).values("value")[:1]


def page_of_rows(runs: RunQuerySet, number: str | None) -> "tuple[Page[Run], list[Row]]":
    page = Paginator(runs, PAGE_SIZE).get_page(number)
    return page, rows(list(page.object_list))


def rows(runs: Sequence[Run]) -> list[Row]:
    """Two queries, however many runs."""
    rewards = _rewards(runs)
    rollouts = _last_step_rollouts(runs)
    return [_row(run, rewards[run.pk], rollouts[run.pk]) for run in runs]


def _row(run: Run, rewards: list[float], rollouts: list[Rollout]) -> Row:
    return Row(
        run=run,
        reward=rewards[-1] if rewards else None,
        change=rewards[-1] - rewards[0] if len(rewards) > 1 else None,
        spark=sparkline(rewards),
        rollouts=rollouts,
    )


def _rewards(runs: Sequence[Run]) -> dict[object, list[float]]:
    found: dict[object, list[float]] = defaultdict(list)
    pairs = (
        Step.objects.filter(run__in=runs, superseded=False)
        .order_by("step")
        .values_list("run_id", KeyTransform("reward/mean", "metrics"))
    )
    for run_id, pair in pairs:
        if pair and pair[1]:
            found[run_id].append(pair[0] / pair[1])
    return found


def _last_step_rollouts(runs: Sequence[Run]) -> dict[object, list[Rollout]]:
    found: dict[object, list[Rollout]] = defaultdict(list)
    last = Rollout.objects.filter(
        run__in=runs, step=F("run__current_step"), purpose="train", superseded=False
    )
    for rollout in last.light().first_of_each_run():
        found[rollout.run_id].append(rollout)
    return found
