"""Attention over trees: each response sees its prompt and itself, so a shared prompt is computed once.

Registered with transformers under the name "tree"; the row's trees travel as a keyword of the model's forward. Exact: the
same numbers as running every rollout by itself, without padding and without an S x S mask. Does not do sliding windows
or attention sinks; `trainer.policy` refuses models that need them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers import AttentionInterface, AttentionMaskInterface

from trainer.batch import Tree

TREE = "tree"


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    trees: tuple[Tree, ...],
    **_: Any,
) -> tuple[Tensor, None]:
    """query [1, H, S, D], key and value [1, H_kv, S, D] -> ([1, S, H, D], None)."""
    # rotary embeddings promote to float32 under autocast, values do not
    query, key = query.to(value.dtype), key.to(value.dtype)
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    # one split instead of slices: its backward is one concatenation, a slice's is a zero-filled copy of everything
    lengths = [n for tree in trees for n in (tree.prompt_length, *tree.response_lengths)]
    pieces = zip(
        query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True
    )
    outputs = []
    for tree in trees:
        q, prompt_keys, prompt_values = next(pieces)
        outputs.append(sdpa(q, prompt_keys, prompt_values, is_causal=True, scale=scaling))
        for _response in tree.response_lengths:
            q, k, v = next(pieces)
            keys, values = torch.cat([prompt_keys, k], 2), torch.cat([prompt_values, v], 2)
            mask = causal_lower_right(q.shape[2], keys.shape[2])
            outputs.append(sdpa(q, keys, values, attn_mask=mask, scale=scaling))
    return torch.cat(outputs, 2).transpose(1, 2), None


def register() -> None:
    """Make `attn_implementation="tree"` known to transformers. Safe to call twice."""
    AttentionInterface.register(TREE, tree_attention)
    AttentionMaskInterface.register(TREE, lambda *_, **__: None)
