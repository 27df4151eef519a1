"""Sweeps over context limits: one evaluation a limit, launched together, and pass@1 against the limit."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import transaction

from trainer.config import ConfigError
from trainer.evaluations.config import EvalConfig
from trainer.evaluations.summary import Summary
from webapp.evaluations import lifecycle
from webapp.evaluations.models import ContextSweep, Evaluation
from webapp.evaluations.overview import Progress, summary_of

MAX_LIMITS = 12
NAME_CHARS = 120


@dataclass(frozen=True, kw_only=True)
class Point:
    """One evaluation of a sweep."""

    evaluation: Evaluation
    summary: Summary
    num_scored: int
    wanted: int

    @property
    def cut_off(self) -> float | None:
        """Share of the rollouts that the limit ended."""
        ended = self.summary.endings.get("max_context", 0)
        return ended / self.summary.num_rollouts if self.summary.num_rollouts else None


def configs_of(config: EvalConfig, limits: Sequence[int]) -> list[EvalConfig]:
    """One for each limit, the smallest first. Raises ConfigError, field "context_limits"."""
    if not 2 <= len(set(limits)) <= MAX_LIMITS:
        message = f"{len(set(limits))} limits: give 2 to {MAX_LIMITS} different ones"
        raise ConfigError([("context_limits", message)])
    found = []
    for limit in sorted(set(limits)):
        try:
            found.append(config.with_context_limit(limit))
        except ConfigError as error:
            field, message = error.problems[0]
            raise ConfigError([("context_limits", f"{limit}: {field}: {message}")]) from error
    return found


@transaction.atomic
def launch(
    *, configs: Sequence[EvalConfig], name: str, owner: User | None, num_shards: int = 1
) -> ContextSweep:
    """Queue the evaluations."""
    sweep = ContextSweep.objects.create(name=name, owner=owner)
    for config in configs:
        ending = f", {config.rollout.max_response_tokens:,} tokens"
        lifecycle.launch(
            config=config,
            name=name[: NAME_CHARS - len(ending)] + ending,
            owner=owner,
            num_shards=num_shards,
            sweep=sweep,
        )
    return sweep


def points_of(sweep: ContextSweep) -> list[Point]:
    """The smallest limit first."""
    evaluations = sorted(
        sweep.evaluations.prefetch_related("shards"), key=lambda row: row.context_limit
    )
    progress = Progress(evaluations)
    return [
        Point(
            evaluation=evaluation,
            summary=summary_of(evaluation),
            num_scored=progress.num_scored(evaluation),
            wanted=progress.wanted(evaluation),
        )
        for evaluation in evaluations
    ]
