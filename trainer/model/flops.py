"""Floating-point operations of an update, by formula from the model's shape. Pure arithmetic; it measures nothing.

Counted as in PaLM (arXiv 2204.02311, appendix B): a multiply-add is two operations, backward costs twice forward, and neither
recomputed activations nor norms, rotations and softmax count. Three deviations, each because this trainer does less work
than the formula's 6 N + 12 L H Q T a token: a shared prefix counts once; a token attends to its ancestors only, so
attention costs 4 H Q operations for each pair of tokens and layer that is really seen; only loss tokens are projected to
the vocabulary. With LoRA backward has no gradients of the frozen weights; merging the adapter is not counted.
"""

from collections.abc import Iterable

from trainer.config import LoraConfig
from trainer.grpo.batch import Row
from trainer.model.footprint import ModelShape

FORWARD_AND_BACKWARD = 3.0
"""In units of a forward pass."""


def forward_flops(
    shape: ModelShape, *, tokens: int, attended_pairs: int, loss_tokens: int
) -> float:
    """Of one forward pass over `tokens` tokens, which see `attended_pairs` (query, key) pairs in each layer."""
    inner, kv = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    projections = (
        shape.hidden_size * (2 * inner + 2 * kv) + 3 * shape.hidden_size * shape.intermediate_size
    )
    layer = 2.0 * tokens * projections + 4.0 * attended_pairs * inner
    return shape.num_layers * layer + 2.0 * loss_tokens * shape.hidden_size * shape.vocab_size


def rows_forward_flops(shape: ModelShape, rows: Iterable[Row]) -> float:
    """Of one forward pass over each row: a token at position p sees p + 1 tokens, its ancestors and itself."""
    return sum(
        forward_flops(
            shape,
            tokens=len(row.input_ids),
            attended_pairs=row.num_pairs,
            loss_tokens=_num_loss_tokens(row),
        )
        for row in rows
    )


def rows_flops_spared(shape: ModelShape, rows: Iterable[Row], lora: LoraConfig) -> float:
    """What backward over each row does not do with LoRA: the gradients of all weights, less those of the adapter.

    Its two matrices cost four thin products, each of a token with one of them.
    """
    adapter = shape.num_adapter_parameters(lora)
    if not adapter:
        return 0.0
    return sum(
        forward_flops(
            shape,
            tokens=len(row.input_ids),
            attended_pairs=0,
            loss_tokens=_num_loss_tokens(row),
        )
        - 4.0 * len(row.input_ids) * adapter
        for row in rows
    )


def _num_loss_tokens(row: Row) -> int:
    """Those that two rollouts share count once."""
    return row.distinct_loss_tokens()[0].shape[1]
