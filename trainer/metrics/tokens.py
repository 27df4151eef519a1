"""What an update shows, token by token: how far the trainer is from the sampler and from the ratio's old policy.

Every number is a tally, so that micro-batches and ranks add up (`trainer.metrics.tally`). The loss's own sums (clip fractions,
mean ratio, k3, entropy) come from `trainer.grpo.loss`; reasons to worry about them are in `trainer.metrics.alarms`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.grpo.batch import Row
from trainer.grpo.loss import inside_band
from trainer.metrics.tally import Tally


def token_tally(
    *,
    logprobs: Tensor,
    old_logprobs: Tensor,
    sampled_logprobs: Tensor,
    correction: Tensor,
    entropy: Tensor,
    sums: dict[str, Tensor],
    cap: float,
    floor: float,
) -> Tally:
    """Of one row. Every tensor is [T], detached, in nats but for `correction`; `sums` are the loss's totals over T.

    `mismatch/kl` is k3 of KL(sampler || trainer); `kl/k1` and `kl/approx` are k1 and k3 of KL(old || trainer) (Schulman,
    "Approximating KL divergence"). `importance/capped` counts tokens that TIS would cut at `cap`, `importance/masked` those
    that IcePop would leave out of [`floor`, `cap`], whichever correction is on. A row without a loss token, which a rank may be
    dealt, shows nothing.
    """
    count = float(len(logprobs))
    if not count:
        return Tally()
    mismatch, drift = logprobs - sampled_logprobs, logprobs - old_logprobs
    weight = torch.exp(mismatch)
    k3 = weight - 1 - mismatch
    totals = sums | {
        "kl/k1": -drift.sum(),
        "logprob/mean": logprobs.sum(),
        "logprob/nonfinite": (~torch.isfinite(logprobs)).sum(),
        "mismatch/abs_diff": mismatch.abs().sum(),
        "mismatch/kl": k3.sum(),
        "importance/ratio": weight.sum(),
        "importance/ratio_squared": weight.square().sum(),
        "importance/mean": correction.sum(),
        "importance/capped": (weight > cap).sum(),
        "importance/masked": (~inside_band(weight, floor, cap)).sum(),
    }
    maxima = {
        "ratio/max": torch.exp(drift).max(),
        "mismatch/max": mismatch.abs().max(),
        "importance/max": correction.max(),
    }
    tally = Tally(maxima=_numbers(maxima))
    for name, total in _numbers(totals).items():
        tally.add(name, total, count)
    tally.add("mismatch/kl_over_entropy", float(k3.sum()), float(entropy.sum()))
    return tally


def _numbers(tensors: dict[str, Tensor]) -> dict[str, float]:
    """All of them in one transfer from the device."""
    together = torch.stack([tensor.double() for tensor in tensors.values()])
    return dict(zip(tensors, together.tolist(), strict=True))


def batch_tally(rows: Sequence[Row], micro_batch_tokens: int) -> Tally:
    """How the batch was cut. There is no padding, so how full rows are is all that can be wasted."""
    tokens = sum(len(row.input_ids) for row in rows)
    tally = Tally()
    tally.add("batch/rows", len(rows), 1.0)
    tally.add("batch/row_tokens", tokens, len(rows))
    tally.add("batch/fill", tokens, len(rows) * micro_batch_tokens)
    tally.add(
        "batch/loss_tokens", sum(row.distinct_loss_tokens()[0].shape[1] for row in rows), tokens
    )
    tally.raise_to("batch/row_tokens_max", max((len(row.input_ids) for row in rows), default=0))
    return tally


def with_effective_sample_size(tally: Tally) -> Tally:
    """Add (sum w)^2 / (n sum w^2) of w = trainer / sampler, as a share of the tokens; after all ranks are merged.

    1: every token counts alike; 0.5: half of the sample is lost to uneven weights (Kish, 1965).
    """
    ratio, squared = tally.ratio("importance/ratio"), tally.ratio("importance/ratio_squared")
    lost = squared.denominator * squared.numerator
    tally.add("importance/effective_sample", ratio.numerator**2, lost)
    return tally
