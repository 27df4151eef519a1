"""A group's rollouts side by side: their turns in one line each, and their patches, each different
one once. Pure.
"""

from dataclasses import dataclass
from string import ascii_uppercase

from webapp.rollouts.diffs import DiffError, FileDiff, file_diffs
from webapp.rollouts.models import Rollout
from webapp.rollouts.plaintext import every_character
from webapp.rollouts.transcript import ShownTurn, shown_turn

MAX_TURNS = 12
"""Turns in a column; the rest is one click away."""


@dataclass(frozen=True, kw_only=True)
class Sibling:
    rollout: Rollout
    patch_letter: str
    """Same letter, same patch; empty for none."""
    turns: list[ShownTurn]
    num_more: int
    num_passed: int
    num_tests: int


@dataclass(frozen=True, kw_only=True)
class DistinctPatch:
    letter: str
    rollouts: list[Rollout]
    files: tuple[FileDiff, ...]
    text: str
    """The patch itself where it cannot be read as one."""


def siblings(rollouts: list[Rollout]) -> list[Sibling]:
    letters = _letters(rollouts)
    return [_sibling(rollout, letters.get(rollout.patch, "")) for rollout in rollouts]


def distinct_patches(rollouts: list[Rollout]) -> list[DistinctPatch]:
    """In order of first appearance; rollouts without a patch are left out."""
    return [
        _distinct(letter, [r for r in rollouts if r.patch == patch])
        for patch, letter in _letters(rollouts).items()
    ]


def _letters(rollouts: list[Rollout]) -> dict[str, str]:
    patches = dict.fromkeys(r.patch for r in rollouts if r.patch)
    return {patch: _letter(i) for i, patch in enumerate(patches)}


def _letter(i: int) -> str:
    """A to Z, then A1, B1, ..."""
    return ascii_uppercase[i % 26] + (str(i // 26) if i >= 26 else "")


def _sibling(rollout: Rollout, letter: str) -> Sibling:
    turns = list(rollout.turns.all())
    return Sibling(
        rollout=rollout,
        patch_letter=letter,
        turns=[shown_turn(turn) for turn in turns[:MAX_TURNS]],
        num_more=max(0, len(turns) - MAX_TURNS),
        num_passed=sum(status == "PASSED" for status in rollout.tests.values()),
        num_tests=len(rollout.tests),
    )


def _distinct(letter: str, rollouts: list[Rollout]) -> DistinctPatch:
    patch = rollouts[0].patch
    try:
        return DistinctPatch(letter=letter, rollouts=rollouts, files=file_diffs(patch), text="")
    except DiffError:
        return DistinctPatch(
            letter=letter, rollouts=rollouts, files=(), text=every_character(patch)
        )
