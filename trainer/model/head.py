"""Hidden states -> log-probabilities and entropies of tokens, without the logits of all tokens and all of the vocabulary.

The output layer is computed in tiles, some tokens by some of the vocabulary, small enough for a CPU's cache; backward
computes each tile again. A tile's softmax is that of its part of the vocabulary; with Z_b the part's sum and Z that of all, a
part weighs Z_b / Z. Sums over the vocabulary and the gradient of the weights are float32 or wider. The idea is that of Cut
Cross-Entropy (arXiv 2411.09009), with a temperature and an entropy, and without its filter of small gradients: this is exact.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

TILE_TOKENS = 512
TILE_VOCABULARY = {"cpu": 2048, "cuda": 32768}
"""By device: a CPU's tile of float32 logits is 4 MiB, a GPU's is large enough to keep it busy."""


class TokenScores(NamedTuple):
    """Of T tokens: log-probability [T] at the sampling temperature, entropy [T], in nats.

    float32, or float64 where the model is.
    """

    logprobs: Tensor
    entropy: Tensor


def score_tokens(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float,
    dtype: torch.dtype,
    entropy_grad: bool = False,
) -> TokenScores:
    """hidden [T, E], weight [V, E], targets [T] int64 -> scores. Products are made in `dtype`.

    The entropy carries a gradient with `entropy_grad` only.
    """
    scores = _Head.apply(hidden, weight, targets, temperature, dtype, entropy_grad)
    return TokenScores(*scores)


class _Tile(NamedTuple):
    tokens: slice
    vocabulary: slice
    part: int
    """Which part of the vocabulary it is."""


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        temperature: float,
        dtype: torch.dtype,
        entropy_grad: bool,
    ) -> tuple[Tensor, Tensor]:
        precise = torch.promote_types(dtype, torch.float32)
        vocabulary = weight.shape[0]
        parts = -(-vocabulary // TILE_VOCABULARY[weight.device.type])
        log_z = hidden.new_empty((parts, len(hidden)), dtype=precise)
        mean = torch.empty_like(log_z)
        """Of the logits under the part's softmax."""
        chosen = torch.empty_like(log_z[0])
        for tile, narrow in _tiles(hidden, weight, dtype):
            logits = _logits(hidden[tile.tokens].to(dtype), narrow, temperature, precise)
            p = logits.softmax(-1)
            # the largest probability of a part cannot underflow
            log_z[tile.part, tile.tokens] = logits.amax(-1) - p.amax(-1).log()
            mean[tile.part, tile.tokens] = torch.linalg.vecdot(p, logits)
            rows, columns = _targets_in(tile, targets)
            chosen[tile.tokens.start + rows] = logits[rows, columns]
        whole = log_z.logsumexp(0)
        mean = (torch.exp(log_z - whole) * mean).sum(0)
        ctx.save_for_backward(hidden, weight, targets, log_z - whole, mean)
        ctx.temperature, ctx.dtype, ctx.entropy_grad = temperature, dtype, entropy_grad
        entropy = whole - mean
        if not entropy_grad:
            ctx.mark_non_differentiable(entropy)
        return chosen - whole, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """d logprob / d logit_v = [v is the target] - p_v; d entropy / d logit_v = -p_v (logit_v - mean)."""
        hidden, weight, targets, log_share, mean = ctx.saved_tensors
        grad_logprobs, grad_entropy = grads
        precise = log_share.dtype
        grad_hidden = torch.zeros_like(hidden, dtype=precise)
        grad_weight = torch.zeros_like(weight, dtype=precise) if ctx.needs_input_grad[1] else None
        for tile, narrow in _tiles(hidden, weight, ctx.dtype):
            own = hidden[tile.tokens].to(ctx.dtype)
            logits = _logits(own, narrow, ctx.temperature, precise)
            share = torch.exp(log_share[tile.part, tile.tokens])
            slope = logits.softmax(-1)
            pull = -grad_logprobs[tile.tokens]
            if ctx.entropy_grad:
                bonus = grad_entropy[tile.tokens]
                slope.mul_(
                    logits.sub_(mean[tile.tokens, None]).mul_(-bonus[:, None]).add_(pull[:, None])
                )
                slope.mul_(share[:, None])
            else:
                slope.mul_((pull * share)[:, None])
            rows, columns = _targets_in(tile, targets)
            slope[rows, columns] -= pull[rows]
            slope = slope.div_(ctx.temperature).to(ctx.dtype)
            grad_hidden[tile.tokens] += slope @ narrow
            if grad_weight is not None:
                grad_weight[tile.vocabulary] += slope.mT @ own
        to_weight = None if grad_weight is None else grad_weight.to(weight.dtype)
        return grad_hidden.to(hidden.dtype), to_weight, None, None, None, None


def _tiles(hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> Iterator[tuple[_Tile, Tensor]]:
    """Every tile, with its rows of the weight in the type of the products; the weight's rows are converted once."""
    width = TILE_VOCABULARY[weight.device.type]
    for part, start in enumerate(range(0, weight.shape[0], width)):
        vocabulary = slice(start, min(start + width, weight.shape[0]))
        narrow = weight[vocabulary].to(dtype)
        for first in range(0, len(hidden), TILE_TOKENS):
            tokens = slice(first, min(first + TILE_TOKENS, len(hidden)))
            yield _Tile(tokens, vocabulary, part), narrow


def _logits(hidden: Tensor, weight: Tensor, temperature: float, precise: torch.dtype) -> Tensor:
    return (hidden @ weight.mT).to(precise).div_(temperature)


def _targets_in(tile: _Tile, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the tile at which its tokens' targets stand."""
    own = targets[tile.tokens]
    rows = ((own >= tile.vocabulary.start) & (own < tile.vocabulary.stop)).nonzero()[:, 0]
    return rows, own[rows] - tile.vocabulary.start
