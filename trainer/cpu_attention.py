"""Attention of a row's segments on a CPU by plain matrix products, with the probabilities kept for backward.

torch's fused CPU kernel saves memory and pays for it in time: on cores with bfloat16 products, a few hundred tokens a segment,
its forward and backward take about three times as long as the products that they are made of. Scores, softmax and the
softmax's gradient are float32 (float64 for a float64 model) whatever the type of the values, as in the fused kernel;
probabilities are rounded to the values' type. The gradient is that of FlashAttention-2 (arXiv 2307.08691, section 2.3)
without its blocks: dS = P * (dP - rowsum(dO * O)). Nothing here knows of prompts shared by a group but `Segment`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Queries `own` of a row: each sees all of `prompt` (empty for a prompt itself), and `own` up to itself."""

    prompt: slice
    own: slice

    @property
    def num_keys(self) -> int:
        return self.prompt.stop - self.prompt.start + self.own.stop - self.own.start

    def keys(self, row: Tensor) -> Tensor:
        """row [H_kv, S, D] -> [H_kv, K, D] of the tokens that the segment sees."""
        if self.prompt.start == self.prompt.stop:
            return row[:, self.own]
        return torch.cat([row[:, self.prompt], row[:, self.own]], 1)

    def add_to_keys(self, row: Tensor, grad: Tensor) -> None:
        """Add grad [H_kv, K, D], laid out as `keys` gives them, to row [H_kv, S, D]."""
        num_shared = self.prompt.stop - self.prompt.start
        row[:, self.prompt] += grad[:, :num_shared]
        row[:, self.own] += grad[:, num_shared:]


def attend_on_cpu(
    query: Tensor, key: Tensor, value: Tensor, segments: Sequence[Segment], scale: float
) -> Tensor:
    """query [H, S, D], key and value [H_kv, S, D], one dtype -> [H, S, D]; `segments` cover S in order."""
    output: Tensor = _Attention.apply(
        query.unflatten(0, (key.shape[0], -1)), key, value, segments, scale
    )
    return output.flatten(0, 1)


class _Attention(torch.autograd.Function):
    """query [H_kv, R, S, D]: the R heads that share a key stand beside each other and go through one product."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        segments: Sequence[Segment],
        scale: float,
    ) -> Tensor:
        output = torch.empty_like(query, memory_format=torch.contiguous_format)
        kept = []
        with _bfloat16_units(value.dtype):
            for segment in segments:
                own = query[:, :, segment.own]
                p = _probabilities(own, segment.keys(key), scale).to(value.dtype)
                output[:, :, segment.own] = (p @ segment.keys(value)).view(own.shape)
                kept.append(p)
        ctx.save_for_backward(query, key, value, output, *kept)
        ctx.segments, ctx.scale = segments, scale
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, *kept = ctx.saved_tensors
        (grad_output,) = grad_outputs
        precise = torch.promote_types(value.dtype, torch.float32)
        grad_query = torch.empty_like(query, memory_format=torch.contiguous_format)
        grad_key = torch.zeros(key.shape, dtype=precise)
        grad_value = torch.zeros(value.shape, dtype=precise)
        with _bfloat16_units(value.dtype):
            for segment, p in zip(ctx.segments, kept, strict=True):
                own = query[:, :, segment.own].flatten(1, 2)
                grad = grad_output[:, :, segment.own].flatten(1, 2)
                wide = grad.to(precise)
                mean = (wide * output[:, :, segment.own].flatten(1, 2)).sum(-1, keepdim=True)
                grad_p = wide @ segment.keys(value).to(precise).mT
                grad_scores = grad_p.sub_(mean).mul_(p).mul_(ctx.scale).to(value.dtype)
                grad_query[:, :, segment.own] = (grad_scores @ segment.keys(key)).view(
                    grad_query[:, :, segment.own].shape
                )
                segment.add_to_keys(grad_key, grad_scores.mT @ own)
                segment.add_to_keys(grad_value, p.mT @ grad)
        return grad_query, grad_key.to(key.dtype), grad_value.to(value.dtype), None, None


def _probabilities(query: Tensor, keys: Tensor, scale: float) -> Tensor:
    """query [H_kv, R, T, D], keys [H_kv, K, D] -> [H_kv, R * T, K], float32 or wider; the last T keys are the queries' own."""
    precise = torch.promote_types(query.dtype, torch.float32)
    length = query.shape[2]
    scores = (query.flatten(1, 2).to(precise) @ keys.to(precise).mT).mul_(scale)
    scores.unflatten(1, (-1, length))[..., -length:] += _future(length, precise)
    return scores.softmax(-1)


@lru_cache(maxsize=64)
def _future(length: int, dtype: torch.dtype) -> Tensor:
    """[T, T]: minus infinity where a token would see a later one."""
    return torch.full((length, length), -torch.inf, dtype=dtype).triu(1)


@contextmanager
def _bfloat16_units(dtype: torch.dtype) -> Iterator[None]:
    """Where everything is bfloat16, run its float32 products on the bfloat16 units: the same sums, with unrounded results."""
    mkldnn: Any = torch.backends.mkldnn
    matmul = mkldnn.matmul
    before = matmul.fp32_precision
    if dtype == torch.bfloat16:
        matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before
