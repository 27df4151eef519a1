"""Memory and disk of a run, against numbers worked out by hand."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trainer.attempts import make_config
from tests.trainer.random_models import FAMILIES, SHAPE, make_model, make_policy
from trainer.config import LoraConfig
from trainer.model.footprint import (
    GIB,
    KNOWN_SHAPES,
    ModelShape,
    activation_bytes,
    disk_use,
    engine_memory,
    handover_bytes,
    model_shape,
    pass_tokens,
    shape_of,
    trainer_memory,
)
from trainer.model.norm import swap_norms

TINY = ModelShape(
    num_layers=2,
    hidden_size=32,
    intermediate_size=48,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    vocab_size=211,
    tied=True,
    qk_norm=False,
)
TINY_PARAMETERS = 22272
"""211 x 32 + 2 x (2 x 32 x 32 + 2 x 32 x 16 + 3 x 32 x 48 + 2 x 32) + 32."""


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("smollm2-135m", 134_515_008),
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-14b", 14_768_307_200),
        ("qwen3-32b", 32_762_123_264),
    ],
)
def test_known_shapes_have_the_published_number_of_parameters(name: str, parameters: int) -> None:
    assert KNOWN_SHAPES[name].num_parameters == parameters


def test_parameters_are_those_of_the_real_module() -> None:
    model = make_model("llama", "sdpa")
    assert TINY.num_parameters == TINY_PARAMETERS == sum(p.numel() for p in model.parameters())


def test_a_shape_is_read_from_the_models_own_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SHAPE | {"tie_word_embeddings": True}))
    assert model_shape(str(tmp_path)) == TINY
    qwen = SHAPE | {"model_type": "qwen3", "head_dim": 16}
    (tmp_path / "config.json").write_text(json.dumps(qwen))
    shape = model_shape(str(tmp_path))
    model = make_model("qwen3", "sdpa")
    assert shape is not None
    assert shape.num_parameters == sum(p.numel() for p in model.parameters())


def test_a_model_that_is_not_here_is_known_by_name_or_not_at_all() -> None:
    assert model_shape("Qwen/Qwen3-14B") == KNOWN_SHAPES["qwen3-14b"]
    assert model_shape("somebody/else-7b") is None


def test_a_pass_holds_a_micro_batch_or_one_whole_rollout() -> None:
    # prompt 4096 + response 40
    assert pass_tokens(make_config(optimizer={"micro_batch_tokens": 100})) == 4136
    assert pass_tokens(make_config(optimizer={"micro_batch_tokens": 9000})) == 9000


def test_activations_by_hand() -> None:
    # norms 2 x 32 x 4 B; attention (32 + 2 x 32 + 3 x 16 + 32) x 2 B; MLP (32 + 4 x 48) x 2 B
    layer = 256 + 352 + 448
    assert activation_bytes(TINY, 10, element=2, recompute=False) == 10 * 2 * layer
    assert activation_bytes(TINY, 10, element=2, recompute=True) == 10 * (layer + 2 * 32 * 4)


def test_the_estimate_is_near_what_backward_really_keeps() -> None:
    """Float32, where nothing is copied to another type; embeddings and the output layer are left out."""
    model = make_model("llama", "sdpa")
    swap_norms(model)
    tokens = 64
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model.model(input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=False)
    assert hidden.last_hidden_state.requires_grad
    estimate = activation_bytes(TINY, tokens, element=4, recompute=False)
    assert 0.7 < sum(kept.values()) / estimate < 1.3


def test_trainer_memory_by_hand() -> None:
    config = make_config(optimizer={"micro_batch_tokens": 9000})
    memory = trainer_memory(TINY, config, ranks=2, logit_tile=128, block_queries=64)
    assert memory.weights == 4 * TINY_PARAMETERS / 2
    assert memory.gradients == 4 * TINY_PARAMETERS / 2
    assert memory.optimizer == 8 * TINY_PARAMETERS / 2
    assert memory.logits == 3 * 4 * 128
    # on a CPU attention holds a block's probabilities: 4 heads, 64 queries that see 4136 others, 4 x 4 bytes
    kept = activation_bytes(TINY, 9000, element=4, recompute=False)
    assert memory.activations == kept + 4 * 64 * 4136 * 16
    # whole: embeddings (tied) and two layers; the embeddings' gradient twice, all in float32
    embeddings, layer = 211 * 32, 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32
    assert memory.gathered == 4 * (embeddings + 2 * layer) + 8 * embeddings
    shared = 8 * TINY_PARAMETERS
    assert memory.total == shared + memory.gathered + memory.logits + memory.activations


def test_with_lora_only_the_adapter_has_gradients_and_moments() -> None:
    """Rank 2 on q_proj (32 + 32) and down_proj (48 + 32) of 2 layers."""
    lora = {"rank": 2, "targets": ["q_proj", "down_proj"]}
    config = make_config(lora=lora, checkpoint={"keep": 2})
    adapter = 2 * 2 * (64 + 80)
    assert TINY.num_adapter_parameters(config.lora) == adapter
    memory = trainer_memory(TINY, config, ranks=2, logit_tile=128, block_queries=64)
    assert memory.weights == 4 * (TINY_PARAMETERS + adapter) / 2
    assert memory.gradients == 4 * adapter / 2
    assert memory.optimizer == 8 * adapter / 2
    # merged weights, and the adapter with its moments
    disk = disk_use(TINY, config, num_rollouts=1)
    assert disk.checkpoints == 3 * (4 * TINY_PARAMETERS + 12 * adapter)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_has_the_parameters_of_the_real_one(family: str) -> None:
    lora = LoraConfig(rank=3)
    policy = make_policy(family, lora=lora)
    trained = sum(p.numel() for p in policy.model.parameters() if p.requires_grad)
    shape = shape_of(policy.model.config.to_dict())
    assert shape.num_adapter_parameters(lora) == trained


def test_on_a_gpu_attention_keeps_no_probabilities() -> None:
    config = make_config(hardware={"gpus_per_node": 1})
    memory = trainer_memory(TINY, config, ranks=1, logit_tile=128, block_queries=64)
    assert memory.activations == activation_bytes(TINY, 4136, element=4, recompute=False)


def test_a_kl_penalty_costs_the_weights_of_a_reference_model() -> None:
    without = trainer_memory(TINY, make_config(), ranks=1, logit_tile=128, block_queries=64)
    config = make_config(algorithm={"kl_coef": 0.1})
    assert (
        trainer_memory(TINY, config, ranks=1, logit_tile=128, block_queries=64).weights
        == 2 * without.weights
    )


def test_a_cpu_engines_cache_is_the_configured_one() -> None:
    config = make_config(engine={"max_model_len": 8192, "kv_cache_gib": 2.0})
    memory = engine_memory(TINY, config)
    assert memory.weights == 4 * TINY_PARAMETERS
    assert memory.kv_cache == 2 * GIB
    # keys and values, 2 layers, 2 heads of 8, 2 bytes: 128 B a token, 1 MiB a sequence
    assert TINY.kv_bytes_per_token == 128
    assert memory.num_full_sequences == 2048


def test_a_gpu_engines_cache_is_what_its_share_leaves() -> None:
    config = make_config(
        engine={"max_model_len": 8192, "gpu_memory_utilization": 0.5, "tensor_parallel": 2},
        hardware={"gpus_per_node": 2, "gpu_memory_gib": 24},
    )
    memory = engine_memory(TINY, config)
    assert memory.weights == 4 * TINY_PARAMETERS / 2
    assert memory.kv_cache == 12 * GIB - memory.weights
    assert memory.num_full_sequences == int((12 * GIB - 44544) // 2**19)


def test_weights_are_handed_over_twice_over_by_files_only() -> None:
    assert handover_bytes(TINY, make_config()) == 2 * 4 * TINY_PARAMETERS
    assert handover_bytes(TINY, make_config(engine={"kind": "transformers"})) == 0


def test_disk_by_hand() -> None:
    disk = disk_use(TINY, make_config(checkpoint={"keep": 2}), num_rollouts=100)
    assert disk.checkpoints == 12 * TINY_PARAMETERS * 3
    # a response of 40 tokens at 13 + 5 B, a prompt of 4096 at 4 B
    assert disk.rollouts == 100 * (40 * 18 + 4096 * 4)
    assert disk.total == disk.checkpoints + disk.rollouts
