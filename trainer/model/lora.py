"""LoRA (arXiv 2106.09685): frozen weights W, and beside each a product of thin matrices that learns, s B A (s = alpha / rank).

A deviation: the paper computes W x + s B (A x). Here one product is made with W + s B A, added in float32 and then rounded to
the compute type, because that is what the engine gets: rounded apart, trainer and sampler would not be the same policy, and
an adapter too small to change a bfloat16 weight would be seen by one of the two. The gradients are the paper's: that of W is
never made. A begins random and B at 0, so the first step starts from the model itself; there is no dropout.

Names and layout of the adapter's tensors are those of Hugging Face's PEFT.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from trainer.config import ConfigError, LoraConfig
from trainer.model.footprint import check_rank, shape_of

ADAPTER_ENDS = (".lora_A", ".lora_B")
"""How the names of an adapter's tensors end."""
PEFT_PREFIX = "base_model.model."


class LoraLinear(nn.Module):
    """y = (W + s B A) x + b; W [O, I] and b [O] are frozen, A [R, I] and B [O, R] learn."""

    def __init__(
        self, base: nn.Linear, *, rank: int, alpha: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.weight = base.weight
        self.bias = base.bias
        self.scale = alpha / rank
        bound = 1 / math.sqrt(base.in_features)
        self.lora_A = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        with torch.no_grad():
            drawn = torch.empty(self.lora_A.shape).uniform_(-bound, bound, generator=generator)
            self.lora_A.copy_(drawn)

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O], in autocast's type where it is on."""
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        with torch.autocast(device, enabled=False):
            y: Tensor = _Product.apply(
                x.to(dtype), self.weight, self.bias, self.lora_A, self.lora_B, self.scale
            )
        return y


class _Product(torch.autograd.Function):
    """Backward merges again: what forward merged would keep a copy of all weights, also where FSDP has let go of them."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, a, b)
        ctx.scale = scale
        merged = merge(weight, a, b, scale).to(x.dtype)
        return linear(x, merged, None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """dA = s (dy B)^T x, dB = s dy^T (x A^T), dx = dy (W + s B A)."""
        x, weight, a, b = ctx.saved_tensors
        (grad,) = grads
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ merge(weight, a, b, ctx.scale).to(x.dtype)
        own, grad = x.flatten(0, -2), grad.flatten(0, -2)
        grad_a = (grad @ b.to(x.dtype)).mT @ own * ctx.scale
        grad_b = grad.mT @ (own @ a.to(x.dtype).mT) * ctx.scale
        return grad_x, None, None, grad_a.to(a.dtype), grad_b.to(b.dtype), None


def merge(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """W [O, I], A [R, I], B [O, R] -> W + scale B A, float32 or wider."""
    precise = torch.promote_types(weight.dtype, torch.float32)
    return torch.addmm(weight.to(precise), b.to(precise), a.to(precise), alpha=scale)


def adapt(model: Any, config: LoraConfig, *, seed: int) -> None:
    """Freeze `model` and give each of its `targets` an adapter, in place. Raises ConfigError for what the model cannot have."""
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    missing = set(config.targets)
    check_rank(shape_of(model.config.to_dict()), config)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if name in config.targets and isinstance(child, nn.Linear):
                adapted = LoraLinear(
                    child, rank=config.rank, alpha=config.alpha, generator=generator
                )
                setattr(parent, name, adapted)
                missing.discard(name)
    if missing:
        message = f"{', '.join(sorted(missing))}: not a projection of this model; leave it out"
        raise ConfigError([("lora.targets", message)])


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name is part of an adapter."""
    return name.endswith(ADAPTER_ENDS)


def adapters(model: nn.Module) -> dict[str, LoraLinear]:
    """By the name of the module; empty for a model of which all weights are trained."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoraLinear)}


def unload(model: nn.Module) -> None:
    """Put plain layers with merged weights in the place of those with adapters."""
    for name, module in adapters(model).items():
        weight = merge(module.weight, module.lora_A, module.lora_B, module.scale).detach()
        out_features, in_features = weight.shape
        plain = nn.Linear(in_features, out_features, device="meta")
        plain.weight, plain.bias = nn.Parameter(weight), module.bias
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, plain)


def to_peft(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An adapter's tensors under PEFT's names."""
    return {f"{PEFT_PREFIX}{name}.weight": tensor for name, tensor in state.items()}


def from_peft(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other way round."""
    return {
        name.removeprefix(PEFT_PREFIX).removesuffix(".weight"): tensor
        for name, tensor in state.items()
    }


def peft_config(model: Any) -> dict[str, Any]:
    """What PEFT's adapter_config.json tells of the model's adapter."""
    found = adapters(model)
    rank, _ = next(iter(found.values())).lora_A.shape
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model.name_or_path,
        "r": rank,
        "lora_alpha": next(iter(found.values())).scale * rank,
        "target_modules": sorted({name.rpartition(".")[2] for name in found}),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
