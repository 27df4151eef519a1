"""What of a run's learning is left in the number type that its engine computes in.

A weight that moved by less than half the distance to its neighbour in bfloat16 is, to the engine, the weight it was. Small
learning rates move most weights no further in many steps, so that the engine samples from a policy that has learned less than
the trainer's weights have.
"""

import torch
from torch import Tensor, nn

from trainer.model.lora import adapters
from trainer.model.shards import local

EVERY = 101
"""One weight in so many is looked at; a prime, so that no row or column is met again and again."""


class WeightChange:
    """The change of a model's weights since this was made, by a sample of this rank's share of them.

    A model with an adapter has no sample: what the engine is given are merged weights, which are not here.
    """

    def __init__(self, model: nn.Module) -> None:
        self._weights = [] if adapters(model) else list(model.parameters())
        self._beginning = self._sample()

    def kept(self, dtype: torch.dtype) -> tuple[float, float]:
        """(change in `dtype` · change, change · change): their ratio is the share that is left along what was learned.

        1 in float32; (0, 0) before any change, and of a model with an adapter. Adds up over ranks.
        """
        now = self._sample()
        change = (now - self._beginning).double()
        rounded = now.to(dtype).double() - self._beginning.to(dtype).double()
        return float(rounded @ change), float(change @ change)

    def _sample(self) -> Tensor:
        """[S], S about a hundredth of this rank's weights."""
        parts = [local(weight.detach()).reshape(-1)[::EVERY] for weight in self._weights]
        return torch.cat(parts) if parts else torch.empty(0)
