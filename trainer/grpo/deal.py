"""Rows of a batch -> equally many rows for each rank, alike in cost at each turn.

FSDP gathers each layer on all ranks at once, so every rank makes the same number of passes, and a pass takes as long as its
slowest rank. With the rows ordered by cost and dealt in turns, rows of one pass differ least, and the sum over the passes of
the dearest is the smallest there is. Where rows run out a rank passes an idle row, which has no loss.
"""

from collections.abc import Sequence

import torch

from trainer.grpo.batch import Row
from trainer.grpo.trie import Branch


def deal(rows: Sequence[Row], ranks: int, *, hidden_size: int) -> list[list[Row]]:
    """One list of rows a rank. A single rank gets them as they are."""
    if ranks == 1:
        return [list(rows)]
    dearest_first = sorted(rows, key=lambda row: cost(row, hidden_size), reverse=True)
    missing = -len(rows) % ranks
    dealt = [*dearest_first, *[idle_row()] * missing]
    return [dealt[rank::ranks] for rank in range(ranks)]


def cost(row: Row, hidden_size: int) -> float:
    """Time of a row, in tokens without attention.

    A token costs 2 x 12 d^2 operations in each layer of a decoder of width d, a pair of query and key 4 d: 1 / (6 d) of it.
    """
    return len(row.input_ids) + row.num_pairs / (6 * hidden_size)


def idle_row() -> Row:
    """One token, nothing to learn: its gradient is zero for every parameter."""
    nothing = torch.zeros(0, dtype=torch.int64)
    no_weight = torch.zeros(0, dtype=torch.float64)
    return Row(
        input_ids=torch.zeros(1, dtype=torch.int64),
        position_ids=torch.zeros(1, dtype=torch.int64),
        branches=(Branch(parent=-1, length=1),),
        predictors=nothing,
        targets=nothing,
        advantages=no_weight,
        weights=no_weight,
        sampled_logprobs=no_weight,
    )
