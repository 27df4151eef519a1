"""Small random Llama and Qwen3 models, made from a configuration alone, and what they say of one rollout by itself.

`alone` is the oracle: stock transformers attention, one rollout a pass, no packing, nothing shared, no chunks.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from trainer.config import LoraConfig
from trainer.grpo.rollout import Rollout
from trainer.model import attention
from trainer.model.lora import adapt, adapters
from trainer.model.policy import Policy
from trainer.nodes.world import ALONE, World

VOCABULARY = 211
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    # larger than usual, so that attention matters and a leak between rollouts would show
    "initializer_range": 0.3,
}
FAMILIES = ("llama", "qwen3")


def make_model(family: str, attn_implementation: str, *, seed: int = 0) -> Any:
    """Tied embeddings for Llama, as SmolLM2 has; its own output layer for Qwen3, as the large ones have."""
    attention.register()
    torch.manual_seed(seed)
    if family == "llama":
        llama = LlamaConfig(**SHAPE, tie_word_embeddings=True)
        return LlamaForCausalLM._from_config(llama, attn_implementation=attn_implementation)
    qwen3 = Qwen3Config(**SHAPE, head_dim=16, tie_word_embeddings=False)
    return Qwen3ForCausalLM._from_config(qwen3, attn_implementation=attn_implementation)


def make_policy(
    family: str,
    *,
    temperature: float = 0.7,
    seed: int = 0,
    world: World = ALONE,
    lora: LoraConfig | None = None,
) -> Policy:
    """With `lora` the policy has an adapter that has learnt something: B is random too."""
    model = make_model(family, attention.TREE, seed=seed)
    if lora:
        adapt(model, lora, seed=seed)
        for module in adapters(model).values():
            nn.init.normal_(module.lora_B, std=0.05)
    return Policy(model, dtype=torch.float32, temperature=temperature, world=world)


def to_double(model: Any) -> Any:
    """The model in float64, its norms too: transformers' own fall back to float32 inside."""
    model.double()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__.endswith("RMSNorm"):
                norm = nn.RMSNorm(child.weight.shape[0], eps=child.variance_epsilon).double()
                norm.weight = child.weight
                setattr(module, name, norm)
    return model


class Alone(NamedTuple):
    logprobs: Tensor
    """[T] of the rollout's loss tokens."""
    entropy: Tensor
    """[T]"""


def alone(model: Any, rollout: Rollout, temperature: float) -> Alone:
    """One rollout by itself through a stock model."""
    ids = torch.tensor([rollout.prompt_ids + rollout.response_ids])
    logits = model(input_ids=ids, use_cache=False).logits[0] / temperature
    logprobs, entropies = [], []
    for position, mask in enumerate(rollout.loss_mask, len(rollout.prompt_ids)):
        if mask:
            every = logits[position - 1] - logits[position - 1].exp().sum().log()
            logprobs.append(every[ids[0, position]])
            entropies.append(-(every.exp() * every).sum())
    return Alone(torch.stack(logprobs), torch.stack(entropies))
