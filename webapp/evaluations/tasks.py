"""The table of an evaluation's tasks: which are shown, in what order, and what each row says."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from django.core.paginator import Page, Paginator
from django.db.models.functions import MD5, Length
from django.http import QueryDict

from trainer.evaluations.selection import Patch, agreement_votes, shortest_patch_scores
from trainer.evaluations.summary import SHORTEST, VOTE
from webapp.assessments.results import Results, results_of
from webapp.evaluations.models import Evaluation
from webapp.evaluations.overview import solve_rates, task_ids
from webapp.rollouts.models import Rollout

PAGE_SIZE = 25
SHOWN = {
    "": "All tasks",
    "always": "Solved by every rollout",
    "sometimes": "Solved by some",
    "never": "Solved by none",
    "unscored": "Without a score",
}


class Choice(NamedTuple):
    """The rollout that a rule picks of all."""

    rule: str
    rollout: Rollout | None
    told: str = ""
    """What a verifier says of it, short."""


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    task: str
    rate: float | None
    rollouts: list[Rollout]
    chosen: list[Choice]
    """By each rule, in the same order in every row."""


def page_of_tasks(evaluation: Evaluation, query: QueryDict) -> "tuple[Page[Any], list[TaskRow]]":
    """The tasks that the address asks for, hardest first when it says so."""
    rates = solve_rates(evaluation)
    wanted = [task for task in task_ids(evaluation) if _is_wanted(task, rates, query)]
    if query.get("sort") == "rate":
        wanted.sort(key=lambda task: rates.get(task, -1))
    elif query.get("sort") == "-rate":
        wanted.sort(key=lambda task: -rates.get(task, -1))
    page = Paginator(wanted, PAGE_SIZE).get_page(query.get("page"))
    names = list(page.object_list)
    rollouts, ranks = _rollouts(evaluation, names), _ranks(results_of(evaluation))
    return page, [_row(task, rates.get(task), rollouts.get(task, []), ranks) for task in names]


Ranks = dict[str, dict[UUID, tuple[float, ...]]]
"""Verifier -> rollout -> what it is chosen by, the highest first."""


def _ranks(told: Results) -> Ranks:
    ranks: Ranks = {
        name: {rollout: (score,) for rollout, score in known.items()}
        for name, known in told.scores.items()
    }
    ranks |= {name: {**known} for name, known in told.counts.items()}
    return ranks


def _is_wanted(task: str, rates: dict[str, float], query: QueryDict) -> bool:
    rate = rates.get(task)
    kind = (
        "unscored"
        if rate is None
        else "always"
        if rate == 1
        else "never"
        if rate == 0
        else "sometimes"
    )
    shown = query.get("show", "")
    return shown in ("", kind) and query.get("q", "").lower() in task.lower()


def _rollouts(evaluation: Evaluation, tasks: Sequence[str]) -> dict[str, list[Rollout]]:
    rows = Rollout.objects.filter(evaluation=evaluation, superseded=False, task__in=tasks)
    found: dict[str, list[Rollout]] = {}
    annotated = rows.light().annotate(digest=MD5("patch"), size=Length("patch"))
    for rollout in annotated.order_by("task", "index"):
        found.setdefault(rollout.task, []).append(rollout)
    return found


def _row(
    task: str,
    rate: float | None,
    rollouts: list[Rollout],
    ranks: Ranks,
) -> TaskRow:
    scored = [rollout for rollout in rollouts if rollout.reward is not None]
    return TaskRow(
        task=task,
        rate=rate,
        rollouts=rollouts,
        chosen=[
            Choice(SHORTEST, _shortest(scored)),
            Choice(VOTE, _voted(scored)),
            *(_highest(name, scored, known) for name, known in ranks.items()),
        ],
    )


def _patches(scored: Sequence[Any]) -> list[Patch]:
    return [Patch(rollout.digest, rollout.size) for rollout in scored]


def _voted(scored: list[Rollout]) -> Rollout | None:
    """Of the most frequent patch, the first; of two as frequent, that which came first."""
    votes = agreement_votes(_patches(scored))
    counts = Counter(vote for vote in votes if vote)
    if not counts:
        return scored[0] if scored else None
    return scored[votes.index(counts.most_common(1)[0][0])]


def _shortest(scored: list[Rollout]) -> Rollout | None:
    scores = shortest_patch_scores(_patches(scored))
    return scored[scores.index(max(scores))] if scores else None


def _highest(name: str, scored: list[Rollout], known: dict[UUID, tuple[float, ...]]) -> Choice:
    """Of equal ones the first; one of which the verifier says nothing last."""
    best = max(scored, key=lambda rollout: known.get(rollout.pk, ()), default=None)
    rank = known.get(best.pk, ()) if best else ()
    told = " + ".join(
        f"{number:.2f}" if isinstance(number, float) else str(number) for number in rank
    )
    return Choice(name, best, told)
