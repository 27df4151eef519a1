"""What an evaluation came to, from its rollouts: rates, curves, breakdowns, lengths. Light: standard library and pydantic.

The trainer's reports give it the events, the pages give it their rows. What each number means: `trainer.evaluations.estimates`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple, get_args
from uuid import UUID

from sandbox.task import Difficulty
from trainer.evaluations.estimates import Estimate, best_curve, pass_at_1, pass_curve, vote_curve
from trainer.evaluations.selection import Patch, agreement_votes, shortest_patch_scores

PASS, SHORTEST, VOTE = "pass@k", "shortest patch", "vote"
"""Names of the curves."""
BANDS: tuple[str, ...] = get_args(Difficulty)


class RolloutRow(NamedTuple):
    """A finished rollout; the one that counts at its place."""

    task: str
    rollout: UUID
    termination_reason: str
    reward: float | None
    flags: Sequence[str]
    patch_digest: str
    """Equal for equal patches."""
    patch_size: int
    """In bytes or characters; 0 when nothing changed."""
    num_turns: int
    num_sampled_tokens: int
    num_response_tokens: int
    seconds: float
    grade_s: float


class Part(NamedTuple):
    """The tasks of one repository or band."""

    name: str
    estimate: Estimate


class Lengths(NamedTuple):
    """Means over the scored rollouts."""

    num_turns: float
    num_sampled_tokens: float
    num_response_tokens: float
    seconds: float
    grade_s: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    num_tasks: int
    """With a rollout, scored or not."""
    num_rollouts: int
    num_scored: int
    pass_1: Estimate | None
    """None while nothing is scored."""
    curves: dict[str, list[float]]
    """pass@k and best@k by selection rule for k = 1.., up to the fewest scored rollouts of a task with any."""
    by_repository: list[Part]
    by_difficulty: list[Part]
    endings: dict[str, int]
    """termination_reason -> rollouts, most frequent first."""
    flags: dict[str, int]
    lengths: Lengths | None
    num_sampled_tokens: int
    """All rollouts together, those without a score too."""
    rollout_hours: float
    """Seconds of all rollouts and their gradings, in hours."""


def summarize(
    rows: Iterable[RolloutRow],
    *,
    repository_of: Mapping[str, str] | None = None,
    difficulty_of: Mapping[str, str] | None = None,
) -> Summary:
    """`repository_of` and `difficulty_of` map a task to its part; tasks that they do not name are in none."""
    rows = list(rows)
    scored = [row for row in rows if row.reward is not None]
    rewards = {task: [r.reward or 0.0 for r in group] for task, group in by_task(scored).items()}
    return Summary(
        num_tasks=len({row.task for row in rows}),
        num_rollouts=len(rows),
        num_scored=len(scored),
        pass_1=pass_at_1(rewards),
        curves=curves(scored) if scored else {},
        by_repository=_parts(rewards, repository_of or {}),
        by_difficulty=_parts(rewards, difficulty_of or {}),
        endings=dict(Counter(row.termination_reason for row in rows).most_common()),
        flags=dict(Counter(flag for row in rows for flag in row.flags).most_common()),
        lengths=_lengths(scored) if scored else None,
        num_sampled_tokens=sum(row.num_sampled_tokens for row in rows),
        rollout_hours=sum(row.seconds + row.grade_s for row in rows) / 3600,
    )


def curves(scored: Sequence[RolloutRow]) -> dict[str, list[float]]:
    """Name -> its values for k = 1.., of rollouts that all have a reward."""
    groups = by_task(scored)
    rewards = {task: [row.reward or 0.0 for row in group] for task, group in groups.items()}
    patches = {
        task: [Patch(row.patch_digest, row.patch_size) for row in group]
        for task, group in groups.items()
    }
    shortest = {task: shortest_patch_scores(values) for task, values in patches.items()}
    votes = {task: agreement_votes(values) for task, values in patches.items()}
    return {
        PASS: pass_curve(rewards),
        VOTE: vote_curve(rewards, votes),
        SHORTEST: best_curve(rewards, shortest),
    }


def by_task(rows: Iterable[RolloutRow]) -> dict[str, list[RolloutRow]]:
    groups: dict[str, list[RolloutRow]] = {}
    for row in rows:
        groups.setdefault(row.task, []).append(row)
    return groups


def _parts(rewards: Mapping[str, Sequence[float]], part_of: Mapping[str, str]) -> list[Part]:
    """Bands from easy to hard, others by name. One with no scored rollout is left out."""
    tasks: dict[str, dict[str, Sequence[float]]] = {}
    for task, values in rewards.items():
        if name := part_of.get(task, ""):
            tasks.setdefault(name, {})[task] = values
    names = sorted(tasks, key=lambda name: (BANDS.index(name) if name in BANDS else -1, name))
    estimates = {name: pass_at_1(tasks[name]) for name in names}
    return [Part(name, estimate) for name, estimate in estimates.items() if estimate]


def _lengths(scored: Sequence[RolloutRow]) -> Lengths:
    return Lengths(
        num_turns=fmean(row.num_turns for row in scored),
        num_sampled_tokens=fmean(row.num_sampled_tokens for row in scored),
        num_response_tokens=fmean(row.num_response_tokens for row in scored),
        seconds=fmean(row.seconds for row in scored),
        grade_s=fmean(row.grade_s for row in scored),
    )
