"""Attention over trees: each response sees its prompt and itself, so a shared prompt is computed once.

Registered with transformers under the name "tree"; the row's trees travel as a keyword of the model's forward. Exact: the
same numbers as running every rollout by itself, without padding. A row is cut into segments, a prompt or one response,
each with the keys that it sees. On a CPU `trainer.cpu_attention` computes a segment, elsewhere torch's own fused kernel.
Does not do sliding windows or attention sinks; `trainer.policy` refuses models that need them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, cat, nn
from torch.compiler import disable
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers import AttentionInterface, AttentionMaskInterface

from trainer.batch import Tree
from trainer.cpu_attention import Segment, attend_on_cpu

TREE = "tree"

LONGEST_ON_CPU = 4096
"""Tokens that a segment may see on a CPU before its matrix of probabilities, kept for backward, costs more than it saves."""


@disable
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
    parts = list(segments(trees))
    if query.device.type == "cpu" and max(part.num_keys for part in parts) <= LONGEST_ON_CPU:
        scale = scaling or query.shape[-1] ** -0.5
        output = attend_on_cpu(query[0], key[0], value[0], parts, scale)[None]
    else:
        output = _fused(query, key, value, scaling, trees)
    return output.transpose(1, 2), None


def segments(trees: Sequence[Tree]) -> Iterator[Segment]:
    """The row's prompts and responses in their order, each with the prompt that it sees."""
    start = 0
    for tree in trees:
        prompt = slice(start, start + tree.prompt_length)
        yield Segment(prompt=slice(start, start), own=prompt)
        start = prompt.stop
        for length in tree.response_lengths:
            yield Segment(prompt=prompt, own=slice(start, start + length))
            start += length


def _fused(
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
            keys, values = cat([prompt_keys, k], 2), cat([prompt_values, v], 2)
            mask = causal_lower_right(q.shape[2], keys.shape[2])
            outputs.append(sdpa(q, keys, values, attn_mask=mask, scale=scaling))
    return cat(outputs, 2)


def register() -> None:
    """Make `attn_implementation="tree"` known to transformers. Safe to call twice."""
    AttentionInterface.register(TREE, tree_attention)
    AttentionMaskInterface.register(TREE, lambda *_, **__: None)
