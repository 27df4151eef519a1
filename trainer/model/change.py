"""What of a run's learning is left in the number type that its engine computes in.

A weight that moved by less than half the distance to its neighbour in bfloat16 is, to the engine, the weight it was. Small
learning rates move most weights no further in many steps, so that the engine samples from a policy that has learned less than
the trainer's weights have.
"""

import torch
from torch import Tensor, nn

from trainer.model.lora import is_adapter
from trainer.model.shards import local

EVERY = 101
"""One weight in so many is looked at; a prime, so that no row or column is met again and again."""


class WeightChange:
    """The change of a model's weights since this was made, by a sample of this rank's share of them."""

    def __init__(self, model: nn.Module) -> None:
        named = list(model.named_parameters())
        if any(is_adapter(name) for name, _ in named):
            named = []  # the engine has them merged into weights that are not here
        self._weights = [parameter for _, parameter in named]
        self._beginnings = [_sampled(weight).clone() for weight in self._weights]

    def kept(self, dtype: torch.dtype) -> tuple[float, float]:
        """(change in `dtype` · change, change · change): their ratio is the share that is left along what was learned.

        1 in float32; (0, 0) before any change, and of a model with an adapter. Adds up over ranks.
        """
        kept = whole = torch.zeros(())
        for weight, beginning in zip(self._weights, self._beginnings, strict=True):
            now = _sampled(weight)
            change = (now - beginning).double()
            rounded = now.to(dtype).double() - beginning.to(dtype).double()
            kept = kept.to(change) + (rounded * change).sum()
            whole = whole.to(change) + (change * change).sum()
        return float(kept), float(whole)


def _sampled(weight: Tensor) -> Tensor:
    return local(weight.detach()).reshape(-1)[::EVERY]
