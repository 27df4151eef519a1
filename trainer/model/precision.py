"""The number type that a model computes in: bfloat16 where the hardware multiplies it, else float32.

A CPU without such instructions converts every number, which takes longer than float32 does: docs/training.md has figures.
"""

import torch

from trainer.config import ModelConfig, TrainConfig

NATIVE = ("amx_bf16", "avx512_bf16", "bf16")
"""Any of these capabilities of a CPU multiplies bfloat16; the last is ARM's. Names: `torch.cpu.get_capabilities`."""


def compute_dtype(model: ModelConfig) -> torch.dtype:
    """The configured one; for "auto" what suits this machine."""
    name: str = model.dtype
    if name == "auto":
        name = "bfloat16" if multiplies_bfloat16() else "float32"
    found: torch.dtype = getattr(torch, name)
    return found


def planned_dtype(config: TrainConfig) -> torch.dtype:
    """That on the hardware which the configuration asks for, be it here or not."""
    if config.model.dtype == "auto" and config.hardware.gpus_per_node:
        return torch.bfloat16
    return compute_dtype(config.model)


def multiplies_bfloat16() -> bool:
    """Whether this machine's GPU, or its CPU where there is none, does so without converting."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in NATIVE)


def name_of(dtype: torch.dtype) -> str:
    """As vLLM and people write it."""
    return str(dtype).removeprefix("torch.")
