"""Choosing among a task's rollouts without a model: the baselines that a verifier has to beat. Light: standard library only.

Each gives something for every patch, in the order of the patches; `trainer.estimates` turns it into best@k.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Patch(NamedTuple):
    """As much of a patch as choosing needs."""

    digest: str
    """Equal for equal patches."""
    size: int
    """0 when nothing changed."""


def shortest_patch_scores(patches: Sequence[Patch]) -> list[tuple[bool, int]]:
    """Higher is better: the shortest patch that changes anything."""
    return [(patch.size > 0, -patch.size) for patch in patches]


def agreement_votes(patches: Sequence[Patch]) -> list[str | None]:
    """Rollouts with the same patch vote for it together; one that changed nothing has no vote."""
    return [patch.digest if patch.size else None for patch in patches]
