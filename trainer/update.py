"""One optimizer step from scored groups: pack, forward, backward, clip, step.

The loss of the batch is the plain sum over its rows (`trainer.loss`), so gradients do not depend on how the batch was cut.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from trainer.batch import Row, pack
from trainer.config import TrainConfig
from trainer.events import Metric
from trainer.loss import importance_sums, importance_weights, policy_loss
from trainer.policy import Policy, learning_rate, set_learning_rate
from trainer.rollout import ScoredGroup
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
) -> UpdateResult:
    """Take one optimizer step, or say why not. Raises RunStopped between rows, with the weights untouched."""
    rows = pack(groups, config)
    if not rows:
        return UpdateResult(updated=False, reason="no rollout carried a gradient", metrics={})
    began = time.monotonic()
    optimizer.zero_grad(set_to_none=True)
    sums = _Sums()
    for row in rows:
        if stopping():
            raise RunStopped
        _backward(policy, reference, row, _old_logprobs(policy, row, config), config, sums)
    norm = float(
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), config.optimizer.max_grad_norm)
    )
    finite = math.isfinite(sums.total["loss"]) and math.isfinite(norm)
    updated = finite and norm < config.optimizer.skip_grad_norm
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
            float(sum(len(r.input_ids) for r in rows)),
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
        self.total: dict[str, float] = {"loss": 0.0}
        self.ratio_max = 0.0

    def add(self, sums: dict[str, torch.Tensor], tokens: int) -> None:
        self.tokens += tokens
        for name, value in sums.items():
            self.total[name] = self.total.get(name, 0.0) + float(value)

    def metrics(self) -> dict[str, Metric]:
        means = {name: total for name, total in self.total.items() if name != "loss"}
        return {name: _finite(total, float(self.tokens)) for name, total in means.items()} | {
            "loss": _finite(self.total["loss"], 1.0),
            "ratio/max": _finite(self.ratio_max, 1.0),
            "importance/effective_sample": self._effective_sample(),
        }

    def _effective_sample(self) -> Metric:
        """Kish's effective sample size as a share of the tokens: (sum r)^2 / (T sum r^2)."""
        squares = self.total.get("importance/ratio_squared", 0.0)
        numerator = self.total.get("importance/ratio", 0.0) ** 2
        return _finite(numerator, self.tokens * squares) if math.isfinite(squares) else (0.0, 0.0)


def _finite(numerator: float, denominator: float) -> Metric:
    """The pair, or (0, 0), which counts nowhere, where the step was not finite: JSON has no word for that."""
    return (numerator, denominator) if math.isfinite(numerator) else (0.0, 0.0)


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
    terms.loss.backward()
    between = importance_sums(scores.logprobs.detach(), sampled, **band)
    sums.add(terms.sums | between | {"importance/mean": correction.sum()}, len(row.targets))
    sums.total["loss"] += float(terms.loss.detach())
    sums.ratio_max = max(sums.ratio_max, float(torch.exp(scores.logprobs.detach() - old).max()))
