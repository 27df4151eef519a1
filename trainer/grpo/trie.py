"""Sequences of tokens -> a trie in one row: what they begin with alike stands there once, and is computed once.

A branch is a run of tokens in which nothing forks. Branches stand level by level, so those that continue the same branch
stand next to each other, after it. The trie is found from what neighbours in lexicographic order share, as a suffix tree
from its array (Kasai et al., 2001): sequences that share a beginning are neighbours, so no token is compared twice.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Branch(NamedTuple):
    """Tokens next to each other in a row that continue another branch."""

    parent: int
    """Index of the branch that this one continues, always an earlier one; -1 when it begins a sequence."""
    length: int


class Trie(NamedTuple):
    branches: tuple[Branch, ...]
    """In the order of the row."""
    places: list[Tensor]
    """Of each sequence, [its length] int64: where in the row each of its tokens stands."""


class _Fork(NamedTuple):
    """Sequences [first, last) have their first `begin` tokens in common, which end in branch `parent`."""

    parent: int
    begin: int
    first: int
    last: int


def shared_with_previous(sequences: Sequence[Tensor]) -> list[int]:
    """How many tokens each sequence begins with alike to the one before it; 0 for the first."""
    return [0, *(_num_alike(a, b) for a, b in zip(sequences, sequences[1:], strict=False))]


def _num_alike(a: Tensor, b: Tensor) -> int:
    length = min(len(a), len(b))
    differ = (a[:length] != b[:length]).nonzero()
    return int(differ[0]) if len(differ) else length


def build_trie(sequences: Sequence[Tensor], shared: Sequence[int]) -> Trie:
    """`sequences` in lexicographic order, each not empty; `shared[i]`: tokens that i begins with alike to i - 1.

    A smaller `shared` than is true keeps them apart: with zeros each sequence is a branch by itself.
    """
    branches: list[Branch] = []
    places = [torch.empty(len(sequence), dtype=torch.int64) for sequence in sequences]
    num_tokens = 0
    forks = deque([_Fork(-1, 0, 0, len(sequences))])
    while forks:
        fork = forks.popleft()
        for first, last in _runs(fork, sequences, shared):
            end = min(shared[first + 1 : last], default=len(sequences[first]))
            length = end - fork.begin
            for sequence in range(first, last):
                places[sequence][fork.begin : end] = torch.arange(num_tokens, num_tokens + length)
            num_tokens += length
            forks.append(_Fork(len(branches), end, first, last))
            branches.append(Branch(fork.parent, length))
    return Trie(tuple(branches), places)


def _runs(
    fork: _Fork, sequences: Sequence[Tensor], shared: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Runs [first, last) of the fork's sequences that go on alike; one that ends at the fork is in none."""
    first = fork.first
    for i in range(fork.first + 1, fork.last + 1):
        if i < fork.last and shared[i] > fork.begin:
            continue
        if len(sequences[first]) > fork.begin:
            yield first, i
        first = i
