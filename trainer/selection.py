"""Choosing among a task's rollouts without a model: the baselines that a verifier has to beat. Light: standard library only.

Each gives something for every patch, in the order of the patches; `trainer.estimates` turns it into best@k.
"""

from collections.abc import Sequence


def shortest_patch_scores(patches: Sequence[str]) -> list[tuple[bool, int]]:
    """Higher is better: the shortest patch that changes anything."""
    return [(bool(patch), -len(patch)) for patch in patches]


def agreement_votes(patches: Sequence[str]) -> list[str | None]:
    """Rollouts with the same patch vote for it together; one that changed nothing has no vote."""
    return [patch.strip() or None for patch in patches]
