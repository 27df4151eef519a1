"""The policy: a causal language model, its log-probabilities over rows, and its optimizer.

Weights and AdamW's state are float32; forward and backward run in the configured type under autocast. Logits exist for
loss tokens only, in tiles (`trainer.head`), so there is never a [tokens, vocabulary] tensor for a whole row.
"""

import threading
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from trainer import attention
from trainer.batch import Row
from trainer.config import ModelConfig, OptimizerConfig
from trainer.head import TokenScores, score_tokens
from trainer.norm import swap_norms

LOADING = threading.Lock()
"""Held around `from_pretrained`, which sets the default device of the whole process while it loads."""


class Policy:
    def __init__(self, model: Any, *, dtype: torch.dtype, temperature: float) -> None:
        """`model`: a transformers causal language model; its classes are typed too loosely to name one."""
        swap_norms(model)
        self.model = model
        self.dtype = dtype
        self.temperature = temperature

    def scores(self, row: Row, *, entropy_grad: bool = False) -> TokenScores:
        """Log-probabilities and entropies of the row's loss tokens; gradients flow unless inside `torch.no_grad`."""
        weight = next(self.model.parameters())
        device = weight.device
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != weight.dtype):
            hidden = self.model.model(
                input_ids=row.input_ids[None].to(device),
                position_ids=row.position_ids[None].to(device),
                use_cache=False,  # with a cache transformers would let packed samples see each other
                branches=row.branches,
            ).last_hidden_state[0]
        # rollouts that share a turn share its loss tokens: each is scored once
        distinct, members = row.distinct_loss_tokens()
        predictors, targets = distinct.to(device)
        scores = score_tokens(
            hidden[predictors],
            self.model.get_output_embeddings().weight,
            targets,
            temperature=self.temperature,
            dtype=self.dtype,
            entropy_grad=entropy_grad,
        )
        return TokenScores(*(tensor[members.to(device)] for tensor in scores))


def load_policy(config: ModelConfig, *, temperature: float, weights: Path | None = None) -> Policy:
    """The model at `config.path` in float32 with tree attention, on a GPU if there is one.

    `weights` names another folder with the same shape. Raises ValueError for a model whose attention is not plain causal.
    """
    attention.register()
    with LOADING:
        model: Any = AutoModelForCausalLM.from_pretrained(
            weights or config.path, dtype=torch.float32, attn_implementation=attention.TREE
        )
    if getattr(model.config, "sliding_window", None) and getattr(
        model.config, "use_sliding_window", True
    ):
        raise ValueError(
            f"{config.path}: sliding-window attention is not supported; choose a model with full attention"
        )
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.to("cuda" if torch.cuda.is_available() else "cpu").train()
    return Policy(model, dtype=getattr(torch, config.dtype), temperature=temperature)


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )


def learning_rate(config: OptimizerConfig, step: int) -> float:
    """Linear warm-up over `warmup_steps`, constant afterwards. `step` counts from 1."""
    return config.learning_rate * min(1.0, step / max(1, config.warmup_steps))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


def engine_state(model: Any, dtype: torch.dtype) -> dict[str, Any]:
    """Weights by name in the engine's type, each with memory of its own, as safetensors wants them.

    Tied output embeddings are written out: vLLM's CPU build keeps a packed copy of them, which it makes anew only when
    they are loaded by their own name, and would go on sampling with the old ones.
    """
    state = model.state_dict()
    return {
        name: tensor.detach().to(dtype, copy=True).contiguous() for name, tensor in state.items()
    }
