"""One optimizer step from scored groups: pack, forward, backward, clip, step.

The loss of the batch is the plain sum over its rows (`trainer.grpo.loss`), so gradients do not depend on how the batch was cut.
With several ranks the lead packs and deals the rows, and all take the step together: the gradient norm is that of the whole
batch, and whether the step is taken is decided once.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from trainer.config import TrainConfig
from trainer.events import Metric
from trainer.grpo.batch import Row, pack
from trainer.grpo.deal import deal
from trainer.grpo.loss import importance_weights, policy_loss
from trainer.grpo.rollout import ScoredGroup
from trainer.metrics.speed import speed_tally
from trainer.metrics.stopwatch import Stopwatch
from trainer.metrics.tally import Tally, merge
from trainer.metrics.tokens import batch_tally, token_tally, with_effective_sample_size
from trainer.model.policy import Policy, learning_rate, set_learning_rate
from trainer.model.shards import whole
from trainer.nodes.world import World
from trainer.stop import RunStopped


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

    The lead's: it has the others join in `take_step`. `peak_flops`: FLOP/s of a rank that MFU is a share of,
    `trainer.model.ceiling`; None leaves MFU out.
    """
    rows = pack(groups, config)
    if not rows:
        return UpdateResult(updated=False, reason="no rollout carried a gradient", metrics={})
    order = TakeStep(step=step, peak_flops=peak_flops)
    policy.world.order(order)
    shares = deal(rows, policy.world.size, hidden_size=policy.model.config.hidden_size)
    result = take_step(
        order, policy, optimizer, shares, config, reference=reference, stopping=stopping
    )
    cut = batch_tally(rows, config.optimizer.micro_batch_tokens).metrics()
    return replace(result, metrics=cut | result.metrics)


@dataclass(frozen=True, kw_only=True)
class TakeStep:
    """The lead's order to join in `take_step`."""

    step: int
    peak_flops: float | None


def take_step(
    order: TakeStep,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    shares: Sequence[Sequence[Row]] | None,
    config: TrainConfig,
    *,
    reference: Policy | None,
    stopping: Callable[[], bool],
) -> UpdateResult:
    """One optimizer step from the lead's `shares`, rows for each rank, equally many; followers give None. Collective.

    Raises RunStopped on all ranks between rows, when any of them is stopping.
    """
    world = policy.world
    rows = world.scatter(shares)
    watch, tally, loss = Stopwatch(), Tally(), 0.0
    optimizer.zero_grad(set_to_none=True)
    with watch.timing("old_logprobs"):
        olds = [_old_logprobs(policy, row, config) for row in _until_stopped(rows, world, stopping)]
    with watch.timing("forward_backward"):
        for row, old in zip(_until_stopped(rows, world, stopping), olds, strict=True):
            loss += _backward(policy, reference, row, old, config, tally)
    with watch.timing("optimizer"):
        loss = sum(world.gather(loss))
        norm = _clip(policy, config.optimizer.max_grad_norm)
        finite = math.isfinite(loss) and math.isfinite(norm)
        (updated, *_) = world.gather(finite and norm < config.optimizer.skip_grad_norm)
        rate = learning_rate(config.optimizer, order.step)
        if updated:
            set_learning_rate(optimizer, rate)
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    tally.add("weights/kept", *policy.change.kept(policy.dtype))
    shape = policy.model.config.to_dict()
    tally.include(speed_tally(shape, rows, config, watch.seconds, order.peak_flops))
    measured = with_effective_sample_size(merge(world.gather(tally)))
    measured.add("loss", loss, 1.0)
    measured.add("grad_norm", norm, 1.0)
    measured.add("learning_rate", rate, 1.0)
    measured.add("update/skipped", not updated, 1.0)
    reason = "" if updated else f"loss {loss:.3g}, gradient norm {norm:.3g}: step skipped"
    return UpdateResult(updated=updated, reason=reason, metrics=measured.metrics())


def _until_stopped(
    rows: Sequence[Row], world: World, stopping: Callable[[], bool]
) -> Iterator[Row]:
    """Raises RunStopped before the next row, on all ranks at the same one."""
    for row in rows:
        if world.any(stopping()):
            raise RunStopped
        yield row


def _clip(policy: Policy, max_norm: float) -> float:
    """Scale the batch's gradient to `max_norm` at most, and return its norm before. Collective."""
    norm = torch.nn.utils.clip_grad_norm_(policy.model.parameters(), max_norm)
    return float(whole(norm))


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
    band = {"cap": algorithm.importance_cap, "floor": algorithm.importance_floor}
    correction = importance_weights(
        old, sampled, correction=algorithm.importance_correction, **band
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
    # FSDP averages gradients over the ranks; their sum is wanted
    (terms.loss * policy.world.size).backward()
    tally.include(
        token_tally(
            logprobs=scores.logprobs.detach(),
            old_logprobs=old,
            sampled_logprobs=sampled,
            correction=correction,
            entropy=scores.entropy.detach(),
            sums=terms.sums,
            **band,
        )
    )
    return float(terms.loss.detach())
