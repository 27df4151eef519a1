"""How much memory and disk a run needs: arithmetic on a model's shape and a configuration, in bytes. Standard library only.

Weights, gradients and optimizer state are exact; activations are an estimate for decoders of Llama's and Qwen3's kind
under autocast (tensors that backward keeps, counted by hand; the allocator's slack is not). It does not look at the
machine: that is `trainer.nodes.machine`'s business, and `trainer.plan` compares the two.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config import ConfigError, LoraConfig, Projection, TrainConfig
from trainer.model.precision import planned_dtype

GIB = 2**30

FLOAT32 = 4
TRAINED_BYTES = 16
"""Of a parameter: float32 weight, gradient and AdamW's two moments."""
CHECKPOINT_BYTES = 12
"""Of a trained parameter: float32 weight and AdamW's two moments."""
TOKEN_FILE_BYTES = 13
"""Of a response token on disk: int32 id, int8 mask, float32 log-probability, int32 policy version."""
TEXT_BYTES = 5
"""Of a token as text in the events, quoting included; code has about 3.5 characters a token."""


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """What the footprint of a decoder depends on."""

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    tied: bool
    """Input and output embeddings are one matrix."""
    qk_norm: bool
    """Queries and keys are normalised by head (Qwen3)."""

    @property
    def num_parameters(self) -> int:
        return self.num_embeddings + self.num_layers * self.num_layer_parameters + self.hidden_size

    @property
    def num_embeddings(self) -> int:
        """Parameters of the input and output embeddings."""
        return self.vocab_size * self.hidden_size * (1 if self.tied else 2)

    @property
    def num_layer_parameters(self) -> int:
        """Of one layer."""
        hidden, inner = self.hidden_size, self.num_heads * self.head_dim
        attention = 2 * hidden * inner + 2 * hidden * self.num_kv_heads * self.head_dim
        norms = 2 * hidden + (2 * self.head_dim if self.qk_norm else 0)
        return attention + 3 * hidden * self.intermediate_size + norms

    @property
    def projections(self) -> dict[Projection, tuple[int, int]]:
        """Numbers of inputs and outputs of each projection of a layer."""
        hidden, kv = self.hidden_size, self.num_kv_heads * self.head_dim
        inner, wide = self.num_heads * self.head_dim, self.intermediate_size
        return {
            "q_proj": (hidden, inner),
            "k_proj": (hidden, kv),
            "v_proj": (hidden, kv),
            "o_proj": (inner, hidden),
            "gate_proj": (hidden, wide),
            "up_proj": (hidden, wide),
            "down_proj": (wide, hidden),
        }

    def num_adapter_parameters(self, lora: LoraConfig) -> int:
        """Of the two thin matrices beside each target."""
        layer = sum(sum(self.projections[target]) for target in lora.targets)
        return self.num_layers * lora.rank * layer

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of every layer in 16 bits."""
        return 2 * 2 * self.num_layers * self.num_kv_heads * self.head_dim


def check_rank(shape: ModelShape, lora: LoraConfig) -> None:
    """Raises ConfigError for an adapter of a rank that what it is added to cannot have."""
    for target in lora.targets:
        most = min(shape.projections[target])
        if lora.rank > most:
            message = f"{lora.rank}: {target} itself has rank {most} at most; lower it, or 0 to train all weights"
            raise ConfigError([("lora.rank", message)])


def _qwen3(layers: int, hidden: int, intermediate: int, heads: int, *, tied: bool) -> ModelShape:
    return ModelShape(
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_heads=heads,
        num_kv_heads=8,
        head_dim=128,
        vocab_size=151936,
        tied=tied,
        qk_norm=True,
    )


KNOWN_SHAPES: dict[str, ModelShape] = {
    "smollm2-135m": ModelShape(
        num_layers=30,
        hidden_size=576,
        intermediate_size=1536,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        vocab_size=49152,
        tied=True,
        qk_norm=False,
    ),
    "qwen3-0.6b": _qwen3(28, 1024, 3072, 16, tied=True),
    "qwen3-1.7b": _qwen3(28, 2048, 6144, 16, tied=True),
    "qwen3-4b": _qwen3(36, 2560, 9728, 32, tied=True),
    "qwen3-8b": _qwen3(36, 4096, 12288, 32, tied=False),
    "qwen3-14b": _qwen3(40, 5120, 17408, 40, tied=False),
    "qwen3-32b": _qwen3(64, 5120, 25600, 64, tied=False),
}
"""By the last part of a model's path, in lower case: shapes for a plan before the model is there."""


def model_shape(path: str) -> ModelShape | None:
    """The shape in `path`/config.json, or the known one of that name; None when neither is there."""
    file = Path(path) / "config.json"
    if not file.is_file():
        return KNOWN_SHAPES.get(Path(path).name.lower())
    return shape_of(json.loads(file.read_text()))


def shape_of(told: dict[str, Any]) -> ModelShape:
    """The shape that a transformers configuration tells. Raises KeyError for a model of another kind."""
    heads = told["num_attention_heads"]
    return ModelShape(
        num_layers=told["num_hidden_layers"],
        hidden_size=told["hidden_size"],
        intermediate_size=told["intermediate_size"],
        num_heads=heads,
        num_kv_heads=told.get("num_key_value_heads") or heads,
        head_dim=told.get("head_dim") or told["hidden_size"] // heads,
        vocab_size=told["vocab_size"],
        tied=told.get("tie_word_embeddings", False),
        qk_norm=told.get("model_type", "").startswith("qwen3"),
    )


@dataclass(frozen=True, kw_only=True)
class TrainerMemory:
    """Bytes of one rank of the trainer."""

    weights: float
    gradients: float
    optimizer: float
    gathered: float
    """Of what the ranks share, that which each holds whole for a while."""
    activations: float
    logits: float

    @property
    def total(self) -> float:
        shared = self.weights + self.gradients + self.optimizer
        return shared + self.gathered + self.activations + self.logits


@dataclass(frozen=True, kw_only=True)
class EngineMemory:
    """Bytes of the engine on one GPU, or of the whole engine on a CPU."""

    weights: float
    kv_cache: float
    num_full_sequences: int
    """Rollouts of the greatest length that the KV cache of one replica holds at once."""

    @property
    def total(self) -> float:
        return self.weights + self.kv_cache


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Bytes under the run's folder at the end of the run, at most."""

    checkpoints: float
    """The ones that are kept, and the one being written beside them."""
    rollouts: float
    """Token files and events; test logs and large patches are not in it."""

    @property
    def total(self) -> float:
        return self.checkpoints + self.rollouts


def pass_tokens(config: TrainConfig) -> int:
    """Tokens of the largest forward pass: the micro-batch, or one rollout of full length."""
    rollout = config.rollout
    longest = rollout.max_prompt_tokens + rollout.max_response_tokens
    return max(config.optimizer.micro_batch_tokens, longest)


def activation_bytes(shape: ModelShape, tokens: int, *, element: int, recompute: bool) -> float:
    """What backward keeps for `tokens` tokens: in every layer, or (recompute) one layer and the input of each."""
    inner, kv = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    # the float32 input of the two norms
    norms = 2 * shape.hidden_size * FLOAT32
    # inputs of the projections; queries, keys, values before and after rotation; the attention's output
    attention = (shape.hidden_size + 2 * inner + 3 * kv + inner) * element
    # input of gate and up; gate, its activation, up and their product
    mlp = (shape.hidden_size + 4 * shape.intermediate_size) * element
    layer = norms + attention + mlp
    if recompute:
        return tokens * (layer + shape.num_layers * shape.hidden_size * FLOAT32)
    return tokens * shape.num_layers * layer


def probability_bytes(shape: ModelShape, config: TrainConfig, block_queries: int) -> float:
    """What `trainer.model.cpu_attention` needs at once: `block_queries` that see a whole rollout. 0 on GPUs.

    Float32 probabilities, their gradient, and both in the compute type.
    """
    if config.hardware.gpus_per_node:
        return 0.0
    rollout = config.rollout
    seen = rollout.max_prompt_tokens + rollout.max_response_tokens
    pairs = shape.num_heads * block_queries * seen
    return float(pairs * 2 * (FLOAT32 + element_bytes(config)))


def gathered_bytes(shape: ModelShape, config: TrainConfig) -> float:
    """What FSDP holds whole at once at most (`trainer.model.shards`), in the compute type: the embeddings from the first use to
    the last, the layer at work and the next; and of trained embeddings the gradient, with its float32 copy to be summed.
    """
    element, embeddings = element_bytes(config), shape.num_embeddings
    weights = element * (embeddings + 2 * shape.num_layer_parameters)
    return weights + (0 if config.lora.rank else (element + FLOAT32) * embeddings)


def trainer_memory(
    shape: ModelShape, config: TrainConfig, *, ranks: int, logit_tile: int, block_queries: int
) -> TrainerMemory:
    """Of one of `ranks` processes that share weights, gradients and moments evenly (FSDP).

    With LoRA the frozen weights are float32 too, without gradients and moments. `logit_tile`: logits that exist at once.
    `block_queries`: queries whose probabilities do, on a CPU.
    """
    adapter = shape.num_adapter_parameters(config.lora)
    trained = adapter or shape.num_parameters
    reference = 1 if config.algorithm.kl_coef else 0
    return TrainerMemory(
        weights=FLOAT32 * (shape.num_parameters * (1 + reference) + adapter) / ranks,
        gradients=FLOAT32 * trained / ranks,
        optimizer=2 * FLOAT32 * trained / ranks,
        gathered=gathered_bytes(shape, config) if ranks > 1 else 0.0,
        activations=activation_bytes(
            shape,
            pass_tokens(config),
            element=element_bytes(config),
            recompute=config.model.gradient_checkpointing,
        )
        + probability_bytes(shape, config, block_queries),
        # logits, their softmax and its rounded copy
        logits=3.0 * FLOAT32 * logit_tile,
    )


def element_bytes(config: TrainConfig) -> int:
    """Of a number in the compute type, which is also the engine's."""
    return planned_dtype(config).itemsize


def engine_memory(shape: ModelShape, config: TrainConfig) -> EngineMemory:
    """On a GPU the KV cache is what `gpu_memory_utilization` leaves beside the weights; on a CPU it is given."""
    engine, hardware = config.engine, config.hardware
    weights = element_bytes(config) * shape.num_parameters / engine.tensor_parallel
    if hardware.gpus_per_node:
        share = engine.gpu_memory_utilization * hardware.gpu_memory_gib * GIB
        kv_cache = max(0.0, share - weights)
    else:
        kv_cache = engine.kv_cache_gib * GIB
    sequence = shape.kv_bytes_per_token * engine.max_model_len / engine.tensor_parallel
    return EngineMemory(
        weights=weights, kv_cache=kv_cache, num_full_sequences=int(kv_cache // sequence)
    )


def handover_bytes(shape: ModelShape, config: TrainConfig) -> float:
    """Memory-backed disk for weights on their way to the engine: the new ones, and the last until they are let go."""
    if config.engine.weight_sync == "nccl" or config.engine.kind == "transformers":
        return 0.0
    return 2.0 * element_bytes(config) * shape.num_parameters


def disk_use(shape: ModelShape, config: TrainConfig, *, num_rollouts: int) -> Disk:
    """`num_rollouts`: of the whole run, evaluations included; every one is taken at full length."""
    rollout = config.rollout
    response = rollout.max_response_tokens * (TOKEN_FILE_BYTES + TEXT_BYTES)
    prompt = rollout.max_prompt_tokens * FLOAT32
    adapter = shape.num_adapter_parameters(config.lora)
    # of a run with LoRA the merged weights are beside the adapter
    frozen, trained = (shape.num_parameters, adapter) if adapter else (0, shape.num_parameters)
    checkpoint = FLOAT32 * frozen + CHECKPOINT_BYTES * trained
    return Disk(
        checkpoints=float(checkpoint * (config.checkpoint.keep + 1)),
        rollouts=float(num_rollouts * (response + prompt)),
    )
