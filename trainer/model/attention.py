"""Attention over a trie of tokens: each sees what it continues and never a sibling, so what rollouts share is computed once.

Registered with transformers under the name "tree"; the row's branches travel as a keyword of the model's forward. Exact: the
same numbers as running every rollout by itself, without padding. On a CPU `trainer.model.cpu_attention` computes the row in
blocks, elsewhere torch's own fused kernel does, a branch at a time.
Does not do sliding windows or attention sinks; `trainer.model.policy` refuses models that need them.
"""

from typing import Any

from torch import Tensor, cat, nn
from torch.compiler import disable
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers import AttentionInterface, AttentionMaskInterface

from trainer.grpo.trie import Branch
from trainer.model.blocks import blocks, paths
from trainer.model.cpu_attention import attend_on_cpu

TREE = "tree"

LONGEST_ON_CPU = 4096
"""Tokens that a block may see on a CPU before its matrix of probabilities is too large for the caches."""


@disable
def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    branches: tuple[Branch, ...],
    **_: Any,
) -> tuple[Tensor, None]:
    """query [1, H, S, D], key and value [1, H_kv, S, D] -> ([1, S, H, D], None)."""
    # rotary embeddings promote to float32 under autocast, values do not
    query, key = query.to(value.dtype), key.to(value.dtype)
    parts = blocks(branches)
    if query.device.type == "cpu" and max(part.num_keys for part in parts) <= LONGEST_ON_CPU:
        scale = scaling or query.shape[-1] ** -0.5
        output = attend_on_cpu(query[0], key[0], value[0], parts, scale)[None]
    else:
        output = _fused(query, key, value, scaling, branches)
    return output.transpose(1, 2), None


def _fused(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, branches: tuple[Branch, ...]
) -> Tensor:
    """query [1, H, S, D], key and value [1, H_kv, S, D] -> [1, H, S, D]."""
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    # one split instead of slices: its backward is one concatenation, a slice's is a zero-filled copy of everything
    lengths = [branch.length for branch in branches]
    queries, keys, values = (tensor.split(lengths, 2) for tensor in (query, key, value))
    outputs = []
    for path, q in zip(paths(branches), queries, strict=True):
        k, v = cat([keys[i] for i in path], 2), cat([values[i] for i in path], 2)
        mask = causal_lower_right(q.shape[2], k.shape[2])
        outputs.append(sdpa(q, k, v, attn_mask=mask, scale=scaling))
    return cat(outputs, 2)


def register() -> None:
    """Make `attn_implementation="tree"` known to transformers. Safe to call twice."""
    AttentionInterface.register(TREE, tree_attention)
    AttentionMaskInterface.register(TREE, lambda *_, **__: None)
