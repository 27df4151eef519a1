"""The GRPO++ objective as pure tensor functions over loss tokens only.

With ratio_t = exp(logprob_t - old_logprob_t), advantage A_t and a weight w_t for every token, the loss is

    sum_t w_t * [ -min(A_t ratio_t, A_t clip(ratio_t, 1 - low, 1 + high)) * c_t + kl_coef * k3_t - entropy_coef * H_t ]

PPO's clip (arXiv 1707.06347) with DAPO's higher upper bound (arXiv 2503.14476); k3_t = exp(d) - d - 1 with
d = ref_logprob_t - logprob_t (Schulman, "Approximating KL divergence"); H_t the entropy of the sampling distribution;
c_t the importance correction between sampler and trainer (`importance_weights`).
All normalisation is in w_t (`token_weights`), so the loss of a batch is the plain sum over its micro-batches.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor


class LossTerms(NamedTuple):
    """`loss` carries the gradient; `sums` are detached totals over the T tokens, each to be divided by T."""

    loss: Tensor
    sums: dict[str, Tensor]


def token_weights(
    num_loss_tokens: Sequence[int],
    num_rollouts: int,
    *,
    loss_normalizer: Literal["constant", "tokens", "sequence"],
    max_response_tokens: int,
) -> list[float]:
    """The weight w_t of every token of each rollout in the loss, one number a rollout.

    `num_loss_tokens`: loss tokens of each rollout that is not filtered. `num_rollouts`: N, the batch's rollouts that
    are not INFRA, filtered ones included. constant: 1 / (N L_max) (Dr.GRPO, arXiv 2503.20783); tokens: 1 / all loss
    tokens (DAPO); sequence: 1 / (N T_i) (GRPO).
    """
    if loss_normalizer == "constant":
        return [1.0 / (num_rollouts * max_response_tokens) for _ in num_loss_tokens]
    if loss_normalizer == "tokens":
        return [1.0 / sum(num_loss_tokens) for _ in num_loss_tokens]
    return [1.0 / (num_rollouts * tokens) for tokens in num_loss_tokens]


def importance_weights(
    old_logprobs: Tensor,
    sampled_logprobs: Tensor,
    *,
    correction: Literal["none", "tis", "icepop"],
    cap: float,
    floor: float,
) -> Tensor:
    """[T] weight c_t of the trainer's old policy against the sampler, from r_t = exp(old_logprob_t - sampled_logprob_t).

    tis: min(r_t, cap), truncated importance sampling (Ionides 2008; for sampler and trainer: Yao et al. 2025, "Your Efficient
    RL Framework Secretly Brings You Off-Policy RL Training"). icepop: r_t inside [floor, cap], else 0 (Ling team 2025,
    "Small Leak Can Sink a Great Ship"; arXiv 2510.18855). With old policy = the trainer's newest, r_t also holds how much the
    policy has moved since the sampling, so it corrects stale rollouts too (decoupled PPO, AReaL, arXiv 2505.24298).
    """
    if correction == "none":
        return torch.ones_like(old_logprobs)
    ratio = torch.exp(old_logprobs - sampled_logprobs)
    if correction == "tis":
        return ratio.clamp(max=cap)
    return torch.where(inside_band(ratio, floor, cap), ratio, torch.zeros_like(ratio))


def inside_band(ratio: Tensor, floor: float, cap: float) -> Tensor:
    """[T] bool, where IcePop keeps a token."""
    return (ratio >= floor) & (ratio <= cap)


def policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    weights: Tensor,
    *,
    clip_ratio_low: float,
    clip_ratio_high: float,
    correction: Tensor | None = None,
    ref_logprobs: Tensor | None = None,
    kl_coef: float = 0.0,
    entropy: Tensor | None = None,
    entropy_coef: float = 0.0,
) -> LossTerms:
    """The loss over T loss tokens; every tensor is [T], of one floating dtype, log-probabilities in nats.

    Only `logprobs` and `entropy` carry gradients. `ref_logprobs` is needed when kl_coef > 0, `entropy` when
    entropy_coef > 0.
    """
    log_ratio = logprobs - old_logprobs.detach()
    ratio = torch.exp(log_ratio)
    clipped = ratio.clamp(1 - clip_ratio_low, 1 + clip_ratio_high)
    surrogate = torch.minimum(advantages * ratio, advantages * clipped)
    per_token = -surrogate if correction is None else -surrogate * correction
    sums = _ratio_sums(
        log_ratio.detach(), ratio.detach(), advantages, clip_ratio_low, clip_ratio_high
    )
    if kl_coef:
        if ref_logprobs is None:
            raise ValueError(f"kl_coef={kl_coef}: needs ref_logprobs of the initial policy")
        delta = ref_logprobs - logprobs
        k3 = torch.exp(delta) - delta - 1
        per_token = per_token + kl_coef * k3
        sums["kl/reference"] = k3.detach().sum()
    if entropy is not None:
        sums["entropy"] = entropy.detach().sum()
        if entropy_coef:
            per_token = per_token - entropy_coef * entropy
    return LossTerms((weights * per_token).sum(), sums)


def _ratio_sums(
    log_ratio: Tensor, ratio: Tensor, advantages: Tensor, low: float, high: float
) -> dict[str, Tensor]:
    """Totals that tell how far the update is from the old policy; k3 is the non-negative estimator of its KL."""
    return {
        "ratio/mean": ratio.sum(),
        "clip/low": ((ratio < 1 - low) & (advantages < 0)).sum(),
        "clip/high": ((ratio > 1 + high) & (advantages > 0)).sum(),
        "kl/approx": (ratio - 1 - log_ratio).sum(),
    }
