"""One optimizer step from scored groups: pack, forward, backward, clip, step.

The loss of the batch is the plain sum over its rows (`trainer.loss`), so gradients do not depend on how the batch was cut.
With several ranks the lead packs and deals the rows, and all take the step together: the gradient norm is that of the whole
batch, and whether the step is taken is decided once.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from trainer.batch import Row, pack
from trainer.config import TrainConfig
from trainer.deal import deal
from trainer.events import Metric
from trainer.loss import importance_weights, policy_loss
from trainer.policy import Policy, learning_rate, set_learning_rate
from trainer.rollout import ScoredGroup
from trainer.shards import whole
from trainer.stop import RunStopped
from trainer.world import World


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
) -> UpdateResult:
    """Take one optimizer step, or say why not. Raises RunStopped between rows, with the weights untouched.

    The lead's: it has the others join in `take_step`.
    """
    rows = pack(groups, config)
    if not rows:
        return UpdateResult(updated=False, reason="no rollout carried a gradient", metrics={})
    policy.world.order(TakeStep(step=step))
    shares = deal(rows, policy.world.size, hidden_size=policy.model.config.hidden_size)
    return take_step(
        policy, optimizer, shares, config, step=step, reference=reference, stopping=stopping
    )


@dataclass(frozen=True, kw_only=True)
class TakeStep:
    """The lead's order to join in `take_step`."""

    step: int


def take_step(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    shares: Sequence[Sequence[Row]] | None,
    config: TrainConfig,
    *,
    step: int,
    reference: Policy | None,
    stopping: Callable[[], bool],
) -> UpdateResult:
    """One optimizer step from the lead's `shares`, rows for each rank, equally many; followers give None. Collective.

    Raises RunStopped on all ranks between rows, when any of them is stopping.
    """
    world = policy.world
    rows = world.scatter(shares)
    began = time.monotonic()
    optimizer.zero_grad(set_to_none=True)
    sums = _Sums()
    olds = [_old_logprobs(policy, row, config) for row in rows]
    for row, old in zip(rows, olds, strict=True):
        if world.any(stopping()):
            raise RunStopped
        _backward(policy, reference, row, old, config, sums)
    sums.add_others(world)
    norm = _clip(policy, config.optimizer.max_grad_norm)
    finite = math.isfinite(sums.total["loss"]) and math.isfinite(norm)
    (updated, *_) = world.gather(finite and norm < config.optimizer.skip_grad_norm)
    rate = learning_rate(config.optimizer, step)
    if updated:
        set_learning_rate(optimizer, rate)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    metrics = sums.metrics() | {
        "grad_norm": _finite(norm, 1.0),
        "learning_rate": (rate, 1.0),
        "update/skipped": (float(not updated), 1.0),
        "perf/trained_tokens_per_s": (
            float(sums.trained_tokens),
            time.monotonic() - began,
        ),
    }
    reason = (
        "" if updated else f"loss {sums.total['loss']:.3g}, gradient norm {norm:.3g}: step skipped"
    )
    return UpdateResult(updated=updated, reason=reason, metrics=metrics)


class _Sums:
    """Totals over the batch's loss tokens."""

    def __init__(self) -> None:
        self.tokens = 0
        self.trained_tokens = 0
        """Of all kinds."""
        self.total: dict[str, float] = {"loss": 0.0}
        self.ratio_max = 0.0

    def add(self, sums: dict[str, torch.Tensor], tokens: int) -> None:
        self.tokens += tokens
        for name, value in sums.items():
            self.total[name] = self.total.get(name, 0.0) + float(value)

    def add_others(self, world: World) -> None:
        """Make them those of all ranks. Collective."""
        others = [sums for rank, sums in enumerate(world.gather(self)) if rank != world.rank]
        for sums in others:
            self.tokens += sums.tokens
            self.trained_tokens += sums.trained_tokens
            self.ratio_max = max(self.ratio_max, sums.ratio_max)
            for name, value in sums.total.items():
                self.total[name] += value

    def metrics(self) -> dict[str, Metric]:
        means = {name: total for name, total in self.total.items() if name != "loss"}
        return {name: _finite(total, float(self.tokens)) for name, total in means.items()} | {
            "loss": _finite(self.total["loss"], 1.0),
            "ratio/max": _finite(self.ratio_max, 1.0),
        }


def _finite(numerator: float, denominator: float) -> Metric:
    """The pair, or (0, 0), which counts nowhere, where the step was not finite: JSON has no word for that."""
    return (numerator, denominator) if math.isfinite(numerator) else (0.0, 0.0)


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
    sums: _Sums,
) -> None:
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
    # FSDP averages gradients over the ranks; their sum is wanted
    (terms.loss * policy.world.size).backward()
    difference = scores.logprobs.detach() - sampled
    mismatch = {
        "mismatch/abs_diff": difference.abs().sum(),
        "mismatch/kl": (torch.exp(difference) - 1 - difference).sum(),
        "importance/mean": correction.sum(),
    }
    sums.add(terms.sums | mismatch, len(row.targets))
    sums.total["loss"] += float(terms.loss.detach())
    sums.trained_tokens += len(row.input_ids)
    if len(row.targets):
        ratio = torch.exp(scores.logprobs.detach() - old)
        sums.ratio_max = max(sums.ratio_max, float(ratio.max()))
