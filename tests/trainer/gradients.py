"""The gradients that `trainer.update.update` hands to the optimizer, kept instead of applied."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainer.config import TrainConfig
from trainer.policy import Policy
from trainer.rollout import ScoredGroup
from trainer.update import UpdateResult, update


class GradientRecorder(torch.optim.Optimizer):
    """Keeps each parameter's gradient at `step` and changes nothing."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy.model.parameters(), {"lr": 0.0})
        self._names = {parameter: name for name, parameter in policy.model.named_parameters()}
        self.gradients: dict[str, Tensor] = {}

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        self.gradients = {
            name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
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
    result = update(
        policy, recorder, groups, config, step=1, reference=reference, stopping=lambda: False
    )
    return result, recorder.gradients
