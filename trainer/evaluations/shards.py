"""Shares of an evaluation: whole tasks, dealt out in turn, so that a task's rollouts are all in one share.

A shard's folder holds an events file of its own; an evaluation that is not split has the one in its own folder. Light:
standard library only.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from sandbox.event_log import EVENTS_FILE

Item = TypeVar("Item")
FOLDER = "shards"


class Shard(NamedTuple):
    """Share `number` of `total`, counted from 1."""

    number: int = 1
    total: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    @property
    def is_whole(self) -> bool:
        return self.total == 1

    def of(self, items: Sequence[Item]) -> list[Item]:
        return list(items[self.number - 1 :: self.total])

    def folder(self, evaluation: Path) -> Path:
        return (
            evaluation if self.is_whole else evaluation / FOLDER / f"{self.number}-of-{self.total}"
        )


def parse_shard(text: str) -> Shard:
    """`2/8`. Raises ValueError."""
    number, _, total = text.partition("/")
    if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise ValueError(f"{text}: needs i/n with 1 <= i <= n, such as 2/8")
    return Shard(int(number), int(total))


def shard_folders(evaluation: Path) -> list[Path]:
    """Every folder of the evaluation that has an events file, in the order of the shards."""
    found = [path.parent for path in evaluation.glob(f"{FOLDER}/*/{EVENTS_FILE}")]
    found.sort(key=lambda folder: int(folder.name.partition("-")[0]))
    return [evaluation, *found] if (evaluation / EVENTS_FILE).is_file() else found
