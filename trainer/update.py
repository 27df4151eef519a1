"""One optimizer step from scored groups: pack, forward, backward, clip, step.

The loss of the batch is the plain sum over its rows (`trainer.loss`), so gradients do not depend on how the batch was cut.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from trainer.batch import Row, pack
from trainer.config import TrainConfig
from trainer.events import Metric
from trainer.loss import importance_weights, policy_loss
from trainer.policy import Policy, learning_rate, set_learning_rate
from trainer.rollout import ScoredGroup
from trainer.speed import speed_tally
from trainer.stop import RunStopped
from trainer.stopwatch import Stopwatch
from trainer.tally import Tally
from trainer.token_metrics import batch_tally, token_tally, with_effective_sample_size


@dataclass(frozen=True, kw_only=True)
class UpdateResult:
    updated: bool
    reason: str
    """Why there was no step; empty when there was one."""
    metrics: dict[str, Metric]


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    groups: Sequence[ScoredGroup],
    config: TrainConfig,
    *,
    step: int,
    reference: Policy | None,
    stopping: Callable[[], bool],
    peak_flops: float | None = None,
) -> UpdateResult:
    """Take one optimizer step, or say why not. Raises RunStopped between rows, with the weights untouched.

    `peak_flops`: FLOP/s that MFU is a share of, `trainer.ceiling`; None leaves MFU out.
    """
    rows = pack(groups, config)
    if not rows:
        return UpdateResult(updated=False, reason="no rollout carried a gradient", metrics={})
    watch = Stopwatch()
    optimizer.zero_grad(set_to_none=True)
    tally = batch_tally(rows, config.optimizer.micro_batch_tokens)
    loss = 0.0
    with watch.timing("old_logprobs"):
        olds = [_old_logprobs(policy, row, config) for row in rows]
    with watch.timing("forward_backward"):
        for row, old in zip(rows, olds, strict=True):
            if stopping():
                raise RunStopped
            loss += _backward(policy, reference, row, old, config, tally)
    with watch.timing("optimizer"):
        norm = float(
            torch.nn.utils.clip_grad_norm_(
                policy.model.parameters(), config.optimizer.max_grad_norm
            )
        )
        finite = math.isfinite(loss) and math.isfinite(norm)
        updated = finite and norm < config.optimizer.skip_grad_norm
        rate = learning_rate(config.optimizer, step)
        if updated:
            set_learning_rate(optimizer, rate)
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    tally.add("loss", loss, 1.0)
    tally.add("grad_norm", norm, 1.0)
    tally.add("learning_rate", rate, 1.0)
    tally.add("update/skipped", not updated, 1.0)
    tally.include(
        speed_tally(policy.model.config.to_dict(), rows, config, watch.seconds, peak_flops)
    )
    reason = "" if updated else f"loss {loss:.3g}, gradient norm {norm:.3g}: step skipped"
    return UpdateResult(
        updated=updated, reason=reason, metrics=with_effective_sample_size(tally).metrics()
    )


def _old_logprobs(policy: Policy, row: Row, config: TrainConfig) -> torch.Tensor:
    """[T] of the policy that the ratio starts from."""
    if config.algorithm.old_logprobs == "sampled":
        return row.sampled_logprobs
    with torch.no_grad():
        return policy.scores(row).logprobs


def _backward(
    policy: Policy,
    reference: Policy | None,
    row: Row,
    old: torch.Tensor,
    config: TrainConfig,
    tally: Tally,
) -> float:
    """Add the row's gradients and measurements; returns its part of the loss."""
    algorithm = config.algorithm
    scores = policy.scores(row, entropy_grad=algorithm.entropy_coef > 0)
    old, sampled = old.to(scores.logprobs), row.sampled_logprobs.to(scores.logprobs)
    correction = importance_weights(
        old, sampled, correction=algorithm.importance_correction, cap=algorithm.importance_cap
    )
    ref_logprobs = None
    if reference is not None:
        with torch.no_grad():
            ref_logprobs = reference.scores(row).logprobs
    terms = policy_loss(
        scores.logprobs,
        old,
        row.advantages.to(scores.logprobs),
        row.weights.to(scores.logprobs),
        clip_ratio_low=algorithm.clip_ratio_low,
        clip_ratio_high=algorithm.clip_ratio_high,
        correction=correction,
        ref_logprobs=ref_logprobs,
        kl_coef=algorithm.kl_coef,
        entropy=scores.entropy,
        entropy_coef=algorithm.entropy_coef,
    )
    terms.loss.backward()
    tally.include(
        token_tally(
            logprobs=scores.logprobs.detach(),
            old_logprobs=old,
            sampled_logprobs=sampled,
            correction=correction,
            entropy=scores.entropy.detach(),
            sums=terms.sums,
        )
    )
    return float(terms.loss.detach())
