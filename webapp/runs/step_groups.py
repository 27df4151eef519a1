"""One step's groups as table rows: rewards as a strip, spread, lengths. Two queries, whatever the
size.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import fmean, pstdev

from webapp.rollouts.models import Group, Rollout
from webapp.runs.models import Run


@dataclass(frozen=True, kw_only=True)
class GroupRow:
    group: Group
    rollouts: list[Rollout]
    mean: float | None
    spread: float | None
    """Standard deviation of the group's rewards."""
    turns: float | None
    tokens: float | None
    """Mean response tokens of the rollouts that ended."""
    endings: list[tuple[str, int]]
    """(termination reason, how many), most frequent first."""


def group_rows(run: Run, step: int, purpose: str) -> list[GroupRow]:
    groups = Group.objects.filter(run=run, step=step, purpose=purpose, superseded=False)
    rollouts: dict[object, list[Rollout]] = defaultdict(list)
    rows = Rollout.objects.filter(group__in=groups).light()
    for rollout in rows.order_by("index"):
        rollouts[rollout.group_id].append(rollout)
    ordered = groups.defer("prompt").order_by("task", "id")
    return [_row(group, rollouts[group.pk]) for group in ordered]


def _row(group: Group, rollouts: list[Rollout]) -> GroupRow:
    rewards = [r.reward for r in rollouts if r.reward is not None]
    ended = [r for r in rollouts if not r.in_flight]
    endings = Counter(r.termination_reason for r in ended if r.termination_reason)
    return GroupRow(
        group=group,
        rollouts=rollouts,
        mean=fmean(rewards) if rewards else None,
        spread=pstdev(rewards) if rewards else None,
        turns=fmean(r.num_turns for r in ended) if ended else None,
        tokens=fmean(r.num_response_tokens for r in ended) if ended else None,
        endings=endings.most_common(),
    )
