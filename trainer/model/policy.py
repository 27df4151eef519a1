"""The policy: a causal language model, its log-probabilities over rows, and its optimizer.

Weights and AdamW's state are float32; forward and backward run in the configured type under autocast. Logits exist for
loss tokens only, in tiles (`trainer.model.head`), so there is never a [tokens, vocabulary] tensor for a whole row. With several
ranks the policy is sharded over them (`trainer.model.shards`), and `scores` and all that gathers weights are collective.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from trainer.config import LoraConfig, ModelConfig, OptimizerConfig
from trainer.grpo.batch import Row
from trainer.model import attention
from trainer.model.change import WeightChange
from trainer.model.head import TokenScores, score_tokens
from trainer.model.lora import LoraLinear, adapt, is_adapter, merge
from trainer.model.norm import swap_norms
from trainer.model.precision import compute_dtype
from trainer.model.shards import fill, shard, whole
from trainer.nodes.world import ALONE, World

LOADING = threading.Lock()
"""Held around `from_pretrained`, which sets the default device of the whole process while it loads."""


class Policy(nn.Module):
    def __init__(
        self, model: Any, *, dtype: torch.dtype, temperature: float, world: World = ALONE
    ) -> None:
        """`model`: a transformers causal language model; its classes are typed too loosely to name one."""
        super().__init__()
        swap_norms(model)
        self.model = model
        self.dtype = dtype
        self.temperature = temperature
        self.world = world
        self.change = WeightChange(model)
        """Since the run's model, which `load_policy` reads before a checkpoint is put into it."""

    def scores(self, row: Row, *, entropy_grad: bool = False) -> TokenScores:
        """Log-probabilities and entropies of the row's loss tokens; gradients flow unless inside `torch.no_grad`."""
        scores: TokenScores = self(row, entropy_grad)
        return scores

    def forward(self, row: Row, entropy_grad: bool) -> TokenScores:
        """`scores`, the output layer included: FSDP gathers its weight here, once for all chunks."""
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


def load_policy(
    config: ModelConfig,
    *,
    temperature: float,
    weights: Path | None = None,
    world: World = ALONE,
    lora: LoraConfig | None = None,
    seed: int = 0,
) -> Policy:
    """The model at `config.path` in float32 with tree attention, on a GPU if there is one, shared by all ranks.

    `weights` names another folder with the same shape. Collective; the lead alone reads weights. With a rank in `lora` an
    adapter, drawn from `seed`, is all that is trained. Raises ValueError for a model whose attention is not plain causal,
    and ConfigError for an adapter that it cannot have.
    """
    attention.register()
    with LOADING:
        model = _read(weights or config.path) if world.leads else _hollow(config.path)
    if getattr(model.config, "sliding_window", None) and getattr(
        model.config, "use_sliding_window", True
    ):
        raise ValueError(
            f"{config.path}: sliding-window attention is not supported; choose a model with full attention"
        )
    if lora and lora.rank:
        adapt(model, lora, seed=seed)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if config.compile:
        compile_layers(model)
    model.train()
    policy = Policy(model, dtype=compute_dtype(config), temperature=temperature, world=world)
    return spread(policy)


def compile_layers(model: Any) -> None:
    """Compile each layer in place, for rows of any length; attention stays as it is."""
    for layer in model.model.layers:
        layer.compile(dynamic=True)


def spread(policy: Policy) -> Policy:
    """Move the policy to its world's device; with several ranks, shard it and take the lead's weights. Collective."""
    model, world = policy.model, policy.world
    if world.size == 1:
        model.to(world.device)
    else:
        state = {name: p.detach() for name, p in model.named_parameters()} if world.leads else None
        shard(policy, model.model.layers, policy.dtype, world)
        fill(model, state, world)
    policy.change = WeightChange(model)
    return policy


def _read(folder: Path | str) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention.TREE
    )


def _hollow(path: str) -> Any:
    """The model with memory that was never written to, and so costs none: its weights are the lead's."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(path),
            dtype=torch.float32,
            attn_implementation=attention.TREE,
        )
    model.to_empty(device="cpu").tie_weights()
    return model


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
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


def weight_shapes(policy: Policy) -> dict[str, torch.Size]:
    """Of `whole_weights`, in their order."""
    return {
        name: tensor.shape
        for name, tensor in policy.model.state_dict().items()
        if not is_adapter(name)
    }


def whole_weights(policy: Policy, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Weights by name as a checkpoint has them, one after the other in `dtype`, on the policy's device. Collective.

    Adapters are merged into them. Tied output embeddings are among them: vLLM's CPU build keeps a packed copy of them, which
    it makes anew only when they are loaded by their own name, and would go on sampling with the old ones.
    """
    state = policy.model.state_dict()
    for name in weight_shapes(policy):
        weight = whole(state[name].detach())
        path, _, kind = name.rpartition(".")
        module = policy.model.get_submodule(path)
        if kind == "weight" and isinstance(module, LoraLinear):
            a, b = (whole(state[f"{path}.{part}"].detach()) for part in ("lora_A", "lora_B"))
            weight = merge(weight, a, b, module.scale)
        yield name, weight.to(dtype)


def engine_state(policy: Policy, dtype: torch.dtype) -> dict[str, Tensor]:
    """`whole_weights` on the CPU, each with memory of its own, as safetensors wants them. Followers: empty. Collective."""
    leads = policy.world.leads
    return {
        name: tensor.to("cpu", copy=True).contiguous()
        for name, tensor in whole_weights(policy, dtype)
        if leads
    }
