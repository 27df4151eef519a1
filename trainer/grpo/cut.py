"""Where a batch's sequences are cut into rows: as few as the budget of tokens allows, then as alike in attention as can be.

Sequences stay in the order in which neighbours share the most. The dearest row is made as cheap as possible by bisection over
its cost, with a greedy fill at each try: exact, for a part of a row never costs more than the row.
"""

from collections.abc import Sequence
from math import inf


def cut(lengths: Sequence[int], shared: Sequence[int], budget: int) -> list[tuple[int, int]]:
    """Runs [first, last) of sequences, each of at most `budget` distinct tokens, or of one sequence.

    `shared[i]`: tokens that sequence i begins with alike to i - 1, which cost nothing when both are in one run.
    """
    runs = _fill(lengths, shared, budget, inf)
    low, high = 0, sum(_pairs(length) for length in lengths)
    while low < high:
        middle = (low + high) // 2
        tried = _fill(lengths, shared, budget, middle)
        if len(tried) > len(runs):
            low = middle + 1
        else:
            high = middle
    return _fill(lengths, shared, budget, high)


def _fill(
    lengths: Sequence[int], shared: Sequence[int], most_tokens: float, most_pairs: float
) -> list[tuple[int, int]]:
    """Fill each run until one limit or the other."""
    runs: list[tuple[int, int]] = []
    first, tokens, pairs = 0, 0, 0
    for i, length in enumerate(lengths):
        more_tokens = length - shared[i]
        more_pairs = _pairs(length) - _pairs(shared[i])
        if i and (tokens + more_tokens > most_tokens or pairs + more_pairs > most_pairs):
            runs.append((first, i))
            first, tokens, pairs = i, length, _pairs(length)
        else:
            tokens, pairs = tokens + more_tokens, pairs + more_pairs
    return [*runs, (first, len(lengths))] if lengths else []


def _pairs(length: int) -> int:
    """Pairs of a token and one that it sees, itself included, in a sequence of that length."""
    return length * (length + 1) // 2
