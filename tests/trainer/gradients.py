"""The gradients that `trainer.training.update.update` hands to the optimizer, kept instead of applied, whole on every rank."""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.trainer.attempts import MIXED, begin_alike, make_config, make_groups
from tests.trainer.random_models import VOCABULARY, alone, make_model
from trainer.config import TrainConfig
from trainer.grpo.rollout import ScoredGroup
from trainer.model.policy import Policy
from trainer.model.shards import whole
from trainer.training.update import UpdateResult, take_step, update

TEMPERATURE = 0.7


class GradientRecorder(torch.optim.Optimizer):
    """Keeps each parameter's gradient at `step` and changes nothing."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy.model.parameters(), {"lr": 0.0})
        self._names = {parameter: name for name, parameter in policy.model.named_parameters()}
        self.gradients: dict[str, Tensor] = {}

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        self.gradients = {
            name: torch.zeros_like(p) if p.grad is None else whole(p.grad).clone()
            for p, name in self._names.items()
        }
        return None


def run_update(
    policy: Policy,
    groups: list[ScoredGroup],
    config: TrainConfig,
    *,
    reference: Policy | None = None,
) -> tuple[UpdateResult, dict[str, Tensor]]:
    """One whole update, and the gradient of every parameter by its name (empty when there was no step)."""
    recorder = GradientRecorder(policy)
    if policy.world.leads:
        result = update(
            policy, recorder, groups, config, step=1, reference=reference, stopping=lambda: False
        )
    else:
        order = policy.world.receive()
        result = take_step(
            order, policy, recorder, None, config, reference=reference, stopping=lambda: False
        )
    return result, recorder.gradients


def splitting(share_prefix: bool, micro_batch_tokens: int, **algorithm: object) -> TrainConfig:
    """A configuration that cuts its batch this way and clips no gradient."""
    return make_config(
        algorithm=algorithm,
        optimizer={
            "max_grad_norm": 1e9,
            "skip_grad_norm": 1e9,
            "share_prefix": share_prefix,
            "micro_batch_tokens": micro_batch_tokens,
        },
    )


def alike_groups(config: TrainConfig) -> list[ScoredGroup]:
    """Multi-turn groups that share an instruction, and first turns within each: loss tokens that two rollouts have."""
    groups = make_groups(MIXED, config, vocabulary=VOCABULARY)
    begin_alike(groups, num_prompt=2, num_response=3)
    return groups


def sample_near_the_policy(
    groups: list[ScoredGroup], rng: random.Random, family: str = "llama"
) -> None:
    """Set the sampler's log-probabilities to the policy's, moved so far that both clips act on some tokens."""
    stock = make_model(family, "sdpa")
    for rollout in (r for g in groups for r in g.rollouts):
        with torch.no_grad():
            near = iter(alone(stock, rollout, TEMPERATURE).logprobs.tolist())
        rollout.logprobs = [
            next(near) + rng.uniform(-0.6, 0.6) if m else 0.0 for m in rollout.loss_mask
        ]


def apart(ours: Tensor, expected: Tensor) -> float:
    """Largest difference, as a share of the largest gradient of this parameter."""
    return ((ours - expected).abs().max() / expected.abs().max()).item()
