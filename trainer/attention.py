"""Attention over trees: each response sees its prompt and itself, so a shared prompt is computed once.

Registered with transformers under the name "tree"; the row's trees travel as a keyword of the model's forward. Exact: the
same numbers as running every rollout by itself, without padding. There are two ways to the same result: one call with a
mask [S, S], and a call for each prompt and response, which needs no mask but copies a prompt's keys for every response.
On a CPU the first is faster at a thousand tokens, most of all when other processes want the cores, for each call waits for
every thread; a GPU's fast kernels take no mask. Does not do sliding windows or attention sinks; `trainer.policy` refuses
models that need them.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers import AttentionInterface, AttentionMaskInterface

from trainer.batch import Tree

TREE = "tree"

LONGEST_MASKED = 4096
"""Tokens of a row beyond which its mask, 16 MiB here, is not worth its memory and the pairs that it leaves out."""


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
    if query.device.type == "cpu" and query.shape[2] <= LONGEST_MASKED:
        mask = tree_mask(trees)
        output = sdpa(query, key, value, attn_mask=mask, scale=scaling, enable_gqa=True)
    else:
        output = _by_pieces(query, key, value, scaling, trees)
    return output.transpose(1, 2), None


@lru_cache(maxsize=1)
def tree_mask(trees: tuple[Tree, ...]) -> Tensor:
    """[S, S] bool, True where the token of the row may see that of the column. Kept for a row's next layer."""
    length = sum(tree.prompt_length + sum(tree.response_lengths) for tree in trees)
    mask = torch.zeros(length, length, dtype=torch.bool)
    start = 0
    for tree in trees:
        prompt = slice(start, start + tree.prompt_length)
        mask[prompt, prompt] = True
        start = prompt.stop
        for response_length in tree.response_lengths:
            response = slice(start, start + response_length)
            mask[response, prompt] = mask[response, response] = True
            start = response.stop
    return mask.tril()


def _by_pieces(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, trees: tuple[Tree, ...]
) -> Tensor:
    """query [1, H, S, D], key and value [1, H_kv, S, D] -> [1, H, S, D]."""
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
    return torch.cat(outputs, 2)


def register() -> None:
    """Make `attn_implementation="tree"` known to transformers. Safe to call twice."""
    AttentionInterface.register(TREE, tree_attention)
    AttentionMaskInterface.register(TREE, lambda *_, **__: None)
