"""Attention of a row's blocks on a CPU by plain matrix products; backward computes the probabilities of a block again.

torch's fused CPU kernel pays in time for its small tiles: on cores with bfloat16 products, a few hundred tokens a block, its
forward and backward take about three times as long as the products that they are made of. Scores, softmax and the softmax's
gradient are float32 (float64 for a float64 model) whatever the type of the values, as in the fused kernel; probabilities are
rounded to the values' type. The gradient is that of FlashAttention-2 (arXiv 2307.08691, section 2.3) with a block's keys as
its only tile: dS = P * (dP - rowsum(dO * O)). Nothing here knows of tries but `Block`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from trainer.model.blocks import Block


def attend_on_cpu(
    query: Tensor, key: Tensor, value: Tensor, blocks: Sequence[Block], scale: float
) -> Tensor:
    """query [H, S, D], key and value [H_kv, S, D], one dtype -> [H, S, D]; `blocks` cover S in order."""
    output: Tensor = _Attention.apply(
        query.unflatten(0, (key.shape[0], -1)), key, value, blocks, scale
    )
    return output.flatten(0, 1)


class _Attention(torch.autograd.Function):
    """query [H_kv, R, S, D]: the R heads that share a key stand beside each other and go through one product."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, blocks: Sequence[Block], scale: float
    ) -> Tensor:
        output = torch.empty_like(query, memory_format=torch.contiguous_format)
        with _unrounded_products(value.dtype):
            for block in blocks:
                own = query[:, :, block.own]
                p = _probabilities(own, block, block.keys(key), scale).to(value.dtype)
                output[:, :, block.own] = (p @ block.keys(value)).view(own.shape)
        ctx.save_for_backward(query, key, value, output)
        ctx.blocks, ctx.scale = blocks, scale
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output = ctx.saved_tensors
        (grad_output,) = grad_outputs
        precise = torch.promote_types(value.dtype, torch.float32)
        grad_query = torch.empty_like(query, memory_format=torch.contiguous_format)
        grad_key = torch.zeros(key.shape, dtype=precise)
        grad_value = torch.zeros(value.shape, dtype=precise)
        with _unrounded_products(value.dtype):
            for block in ctx.blocks:
                keys = block.keys(key)
                p = _probabilities(query[:, :, block.own], block, keys, ctx.scale)
                narrow = p.to(value.dtype)
                own = query[:, :, block.own].flatten(1, 2)
                grad = grad_output[:, :, block.own].flatten(1, 2)
                wide = grad.to(precise)
                mean = (wide * output[:, :, block.own].flatten(1, 2)).sum(-1, keepdim=True)
                grad_p = wide @ block.keys(value).to(precise).mT
                grad_scores = grad_p.sub_(mean).mul_(p).to(value.dtype)
                grad_query[:, :, block.own] = (grad_scores @ keys).view(
                    grad_query[:, :, block.own].shape
                )
                block.add_to_keys(grad_key, grad_scores.mT @ own)
                block.add_to_keys(grad_value, narrow.mT @ grad)
        grad_query *= ctx.scale
        grad_key *= ctx.scale
        return grad_query, grad_key.to(key.dtype), grad_value.to(value.dtype), None, None


def _probabilities(query: Tensor, block: Block, keys: Tensor, scale: float) -> Tensor:
    """query [H_kv, R, T, D], keys [H_kv, K, D] -> [H_kv, R * T, K], float32 or wider."""
    precise = torch.promote_types(query.dtype, torch.float32)
    length = query.shape[2]
    scores = (query.flatten(1, 2).to(precise) * scale) @ keys.to(precise).mT
    scores.unflatten(1, (-1, length))[..., -length:] += block.mask(precise)
    return scores.softmax(-1)


@contextmanager
def _unrounded_products(dtype: torch.dtype) -> Iterator[None]:
    """Float32 products as they are, which autocast would round; of bfloat16 numbers they may run on the bfloat16 units."""
    mkldnn: Any = torch.backends.mkldnn
    matmul = mkldnn.matmul
    before = matmul.fp32_precision
    if dtype == torch.bfloat16:
        matmul.fp32_precision = "bf16"
    try:
        with torch.autocast("cpu", enabled=False):
            yield
    finally:
        matmul.fp32_precision = before
