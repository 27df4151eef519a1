"""RMSNorm with its gradient written by hand: the same numbers from fewer passes over memory, and less kept for backward.

transformers' module keeps the normalised copy beside its input, and under autocast each projection after it converts the
result for itself, forward and backward. `swap_norms` puts this one in its place; parameters and their names stay.
"""

from typing import Any

import torch
from torch import Tensor, nn

SAME_FORMULA = ("LlamaRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")
"""Modules of transformers that are swapped; others have formulas of their own (Gemma's adds 1 to the weight)."""


def swap_norms(model: nn.Module) -> None:
    """Swap the norms of `model` in place."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ in SAME_FORMULA:
                theirs: Any = child
                setattr(module, name, RmsNorm(theirs.weight, theirs.variance_epsilon))


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension (arXiv 1910.07467), in float32 or wider.

    Under autocast the result has autocast's type.
    """

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight = weight
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., E] -> [..., E]"""
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        with torch.autocast(device, enabled=False):
            normed: Tensor = _RmsNorm.apply(x, self.weight, self.eps, dtype)
        return normed


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = torch.linalg.vecdot(wide, wide).div_(x.shape[-1]).add_(eps).rsqrt_()[..., None]
        ctx.save_for_backward(x, weight, scale)
        return (wide * scale).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """With n = x scale: dx = scale (g w - n mean(g w n)), dw = sum over tokens of g n."""
        x, weight, scale = ctx.saved_tensors
        grad = grads[0].to(scale.dtype)
        normed = x * scale
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grad * normed).flatten(0, -2).sum(0).to(weight.dtype)
        pull = grad * weight
        mean = torch.linalg.vecdot(pull, normed).div_(x.shape[-1])[..., None]
        grad_x = pull.sub_(normed.mul_(mean)).mul_(scale)
        return grad_x.to(x.dtype), grad_weight, None, None
