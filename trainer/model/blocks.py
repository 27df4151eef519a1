"""A row's branches -> blocks of queries that see the same keys: what `trainer.model.cpu_attention` multiplies at once.

Branches that continue the same one stand next to each other, so short siblings go together in a block, under a mask, and
the keys that they all see enter one product. A long branch is cut into blocks, each of which sees the ones before it without
a mask, so that little is computed of what a causal mask throws away.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from trainer.grpo.trie import Branch

MOST_QUERIES = 160
"""Of a block: enough for a product to run at full speed, few enough that what its mask throws away stays small."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Queries `own`, next to each other in a row: each sees all of `path`, and its own run of `runs` up to itself."""

    path: tuple[slice, ...]
    own: slice
    runs: tuple[int, ...]
    """Lengths, which add up to those of `own`."""

    @property
    def num_queries(self) -> int:
        return self.own.stop - self.own.start

    @property
    def num_keys(self) -> int:
        return sum(piece.stop - piece.start for piece in self.path) + self.num_queries

    def keys(self, row: Tensor) -> Tensor:
        """row [H_kv, S, D] -> [H_kv, K, D]: the path's tokens, then the block's own."""
        return torch.cat([row[:, piece] for piece in (*self.path, self.own)], 1)

    def add_to_keys(self, row: Tensor, grad: Tensor) -> None:
        """Add grad [H_kv, K, D], laid out as `keys` gives them, to row [H_kv, S, D]."""
        start = 0
        for piece in (*self.path, self.own):
            stop = start + piece.stop - piece.start
            row[:, piece] += grad[:, start:stop]
            start = stop

    def mask(self, dtype: torch.dtype) -> Tensor:
        """[T, T] of the own tokens: 0 where one sees another, minus infinity elsewhere."""
        return _mask(self.runs, dtype)


@lru_cache(maxsize=256)
def _mask(runs: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    visible = torch.block_diag(*(torch.ones(n, n, dtype=torch.bool).tril() for n in runs))
    return torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, -torch.inf)


def paths(branches: Sequence[Branch]) -> list[tuple[int, ...]]:
    """Of each branch the branches from where its sequences begin, itself the last."""
    found: list[tuple[int, ...]] = []
    for i, branch in enumerate(branches):
        found.append((*(found[branch.parent] if branch.parent >= 0 else ()), i))
    return found


@lru_cache(maxsize=16)
def blocks(branches: tuple[Branch, ...]) -> tuple[Block, ...]:
    """The row's blocks in order, which cover it."""
    return tuple(_blocks(branches))


def _blocks(branches: tuple[Branch, ...]) -> Iterator[Block]:
    starts = [0]
    for branch in branches:
        starts.append(starts[-1] + branch.length)
    spans = [_merged([slice(starts[i], starts[i + 1]) for i in path]) for path in paths(branches)]
    waiting: list[int] = []
    for i, branch in enumerate(branches):
        joined = starts[i + 1] - starts[waiting[0]] if waiting else 0
        if waiting and (branch.parent != branches[waiting[0]].parent or joined > MOST_QUERIES):
            yield _siblings(branches, waiting, starts, spans)
            waiting = []
        if branch.length > MOST_QUERIES:
            yield from _pieces(branch, starts[i], spans)
        else:
            waiting.append(i)
    if waiting:
        yield _siblings(branches, waiting, starts, spans)


def _siblings(
    branches: Sequence[Branch],
    members: Sequence[int],
    starts: Sequence[int],
    spans: Sequence[tuple[slice, ...]],
) -> Block:
    """Branches next to each other that continue the same one."""
    parent = branches[members[0]].parent
    return Block(
        path=spans[parent] if parent >= 0 else (),
        own=slice(starts[members[0]], starts[members[-1] + 1]),
        runs=tuple(branches[i].length for i in members),
    )


def _pieces(branch: Branch, start: int, spans: Sequence[tuple[slice, ...]]) -> Iterator[Block]:
    """A long branch in blocks."""
    before = spans[branch.parent] if branch.parent >= 0 else ()
    end = start + branch.length
    for first in range(start, end, MOST_QUERIES):
        last = min(first + MOST_QUERIES, end)
        path = _merged([*before, slice(start, first)]) if first > start else before
        yield Block(path=path, own=slice(first, last), runs=(last - first,))


def _merged(pieces: Sequence[slice]) -> tuple[slice, ...]:
    """Pieces that follow each other without a gap as one."""
    merged: list[slice] = []
    for piece in pieces:
        if merged and merged[-1].stop == piece.start:
            merged[-1] = slice(merged[-1].start, piece.stop)
        else:
            merged.append(piece)
    return tuple(merged)
