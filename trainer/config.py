"""One TOML file a run, one typed `TrainConfig`. Light: standard library and pydantic only.

Unknown keys and impossible values fail with the field's name, the value and the remedy (`ConfigError`). The docstring
under a field is its help text on the page: what it is, its unit, where its default comes from. "DeepSWE" there means
the values published with DeepSWE-Preview (July 2025).
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sandbox.task import Difficulty
from trainer.config_faults import ConfigError as ConfigError
from trainer.config_faults import told
from trainer.config_rules import broken_rules

CONFIG_FILE = "config.toml"

FilterReason = Literal["max_context", "max_turns", "timeout"]
Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]


ComputeType = Literal["auto", "bfloat16", "float32"]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class ModelConfig(Section):
    """The policy that is trained."""

    path: str = "var/models/smollm2-135m"
    """Folder with config.json, safetensors and tokenizer, or a Hugging Face id."""
    dtype: ComputeType = "auto"
    """Compute type of forward and backward; weights and optimizer state stay float32. auto: bfloat16 where the hardware
    multiplies it, else float32, which is then faster. Name it where the machines of a run differ."""
    gradient_checkpointing: bool = False
    """Recompute activations in backward: about a quarter slower, far less memory."""
    compile: bool = False
    """Compile each layer with torch.compile (Inductor): the first steps wait for the compiler, a C++ one on a CPU."""


class LoraConfig(Section):
    """Train a small adapter beside frozen weights (LoRA, arXiv 2106.09685)."""

    rank: NonNegative = 0
    """Rank of what is added to each weight; 0 trains all weights (DeepSWE). With it the learning rate wants to be about
    ten times that of all weights."""
    alpha: PositiveFloat = 32.0
    """What is added is scaled by alpha / rank (32: Thinking Machines' "LoRA Without Regret")."""
    targets: list[Projection] = [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ]
    """Projections of every layer that get an adapter; all of them learn better than attention's alone."""


class TasksConfig(Section):
    """What the policy practises on."""

    taskset: str = "starter"
    """A bundled taskset by name, or a taskset folder."""
    difficulties: list[Difficulty] = []
    """Bands to train on; empty means all."""
    limit: NonNegative = 0
    """At most this many training tasks; 0 means all."""
    only: list[str] = []
    """Names of the training tasks to practise on, a curriculum by hand; empty means all of the bands."""
    tasks_per_step: Positive = 8
    """Groups in one step (DeepSWE: 64)."""
    shuffle: bool = True
    """A new order for every pass over the tasks, drawn from the seed."""
    rest_after_visits: NonNegative = 0
    """A curriculum: a task that nobody solved, or everybody, in each of its last so many visits rests; 0: none rests
    (DeepSWE)."""
    rest_passes: Positive = 3
    """Passes over the tasks that leave a resting task out; then it is visited once more."""
    max_extra_groups: NonNegative = 0
    """At most so many extra groups a step, each drawn because a group showed no difference in reward (DAPO's dynamic
    sampling, arXiv 2503.14476); 0: none (DeepSWE)."""


class RolloutConfig(Section):
    """How one attempt at a task is sampled and bounded."""

    group_size: Annotated[int, Field(ge=1, le=512)] = 8
    """Rollouts a task (DeepSWE: 8)."""
    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0
    """Sampling temperature, the same in sampler and trainer (DeepSWE: 1.0)."""
    max_turns: Positive = 50
    """Turns before a rollout ends as max_turns (DeepSWE: 50)."""
    max_turn_tokens: Positive = 2048
    """Sampled tokens in one turn; a turn cut there is a malformed call."""
    max_prompt_tokens: Positive = 4096
    """Tokens of the rendered prompt (DeepSWE: 4096); a longer one is an error that names the task."""
    max_response_tokens: Positive = 32768
    """Tokens after the prompt, observations included (DeepSWE: 32768); beyond it a rollout ends as max_context.
    Also L_max of the constant length normaliser."""
    timeout_s: PositiveFloat = 1200
    """Seconds for a whole rollout, generation and tools (DeepSWE: 20 minutes)."""
    concurrency: Positive = 64
    """Rollouts in flight at once."""
    max_staleness: NonNegative = 0
    """Policy versions that a sampled token may be older than the weights that learn from it. 0: sampling and updates
    take turns (DeepSWE). More: rollouts of that many next steps go on during an update (asynchronous training)."""
    prompt: str = "r2e-gym"
    """Name of a prompt file in trainer/prompts/."""


class AlgorithmConfig(Section):
    """GRPO++: each of its seven parts is a field that can be switched."""

    clip_ratio_low: Annotated[float, Field(gt=0, lt=1)] = 0.20
    """Lower clip: ratios below 1 - this are clipped (PPO; DeepSWE: 0.2)."""
    clip_ratio_high: PositiveFloat = 0.28
    """Upper clip, "clip high" (DAPO, arXiv 2503.14476; DeepSWE: 0.28). Equal to the lower clip: symmetric."""
    kl_coef: NonNegativeFloat = 0.0
    """Weight of a k3 KL penalty against the initial policy; 0 loads no reference model (DAPO; DeepSWE: 0)."""
    normalize_std: bool = False
    """Divide advantages by the group's standard deviation (GRPO). Off: Dr.GRPO, arXiv 2503.20783; DeepSWE: off."""
    loss_normalizer: Literal["constant", "tokens", "sequence"] = "constant"
    """Divide the token sum by N x max_response_tokens (Dr.GRPO; DeepSWE), by the batch's loss tokens, or average
    each rollout first."""
    baseline: Literal["leave_one_out", "mean"] = "leave_one_out"
    """Subtract the mean reward of the others in the group (RLOO, LOOP; DeepSWE), or of the whole group."""
    compact_filtering: list[FilterReason] = ["max_context", "max_turns", "timeout"]
    """Rollouts that ended for one of these reasons are masked out of the loss (DeepSWE: all three)."""
    filtered_in_baseline: bool = True
    """A filtered rollout's reward still counts in its group's baseline (DeepSWE's release: yes)."""
    entropy_coef: NonNegativeFloat = 0.0
    """Weight of an entropy bonus; entropy is measured either way (DeepSWE: 0)."""
    old_logprobs: Literal["sampled", "recomputed"] = "sampled"
    """The old policy of the ratio: the sampler's own log-probabilities, or recomputed before the update (DeepSWE)."""
    importance_correction: Literal["none", "tis", "icepop"] = "none"
    """Correct for sampler and trainer disagreeing, by rounding or by age: truncate (TIS) or mask (IcePop) the token
    weight. Needs old_logprobs = "recomputed"."""
    importance_cap: Annotated[float, Field(ge=1)] = 2.0
    """Upper bound of the token weight for TIS (its authors: 2) and IcePop (its authors: 5)."""
    importance_floor: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Lower bound of IcePop's band (its authors: 0.5)."""


class OptimizerConfig(Section):
    """AdamW and its schedule."""

    learning_rate: PositiveFloat = 1e-6
    """Peak learning rate (DeepSWE: 1e-6)."""
    warmup_steps: NonNegative = 0
    """Steps of linear warm-up, constant afterwards (DeepSWE: none)."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay (verl's default, which DeepSWE used)."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """AdamW's first moment decay."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """AdamW's second moment decay."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients are clipped to this global norm (DeepSWE: 1.0)."""
    skip_grad_norm: PositiveFloat = 1e5
    """A step whose gradient norm is at least this, or not finite, is skipped and counted (DeepSWE: 1e5)."""
    micro_batch_tokens: Positive = 4096
    """Unique tokens in one forward and backward pass; bounds memory, not results."""
    share_prefix: bool = True
    """Run what rollouts begin with alike (instruction, prompt, equal turns) once; same gradients, less work."""


class EngineConfig(Section):
    """The server that samples."""

    kind: Literal["vllm", "transformers"] = "vllm"
    """vLLM over HTTP, or transformers in process where vLLM cannot be installed."""
    max_model_len: Positive = 4096
    """Longest sequence the engine admits: prompt and response."""
    kv_cache_gib: PositiveFloat = 2.0
    """Memory for the KV cache (CPU engine), GiB."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Share of a GPU's memory for the engine (DeepSWE: 0.6)."""
    tensor_parallel: Positive = 1
    """GPUs one replica is split over (DeepSWE: 8)."""
    replicas: Positive = 1
    """Engine processes."""
    weight_sync: Literal["files", "nccl"] = "files"
    """How new weights reach the engine: safetensors on memory-backed disk, or vLLM's NCCL transfer."""
    startup_timeout_s: PositiveFloat = 300
    """Seconds for the server to answer."""
    request_timeout_s: PositiveFloat = 600
    """Seconds for one completion."""


class SandboxConfig(Section):
    """Where actions run."""

    backend: Literal["bubblewrap", "docker", "kubernetes"] = "bubblewrap"
    """bubblewrap needs no engine and is weaker than a container; kubernetes is for many nodes (DeepSWE)."""
    memory_mib: Positive = 256
    """Memory of one sandbox, MiB."""
    pids: Positive = 64
    """Processes and threads in one sandbox."""
    cpus: PositiveFloat = 1.0
    """CPUs of one sandbox."""
    disk_mib: Positive = 64
    """Writable space of one sandbox, MiB."""
    command_timeout_s: PositiveFloat = 90
    """Seconds for one tool call (DeepSWE: 90)."""
    grading_timeout_s: PositiveFloat = 300
    """Seconds for the tests of one rollout (DeepSWE: 300)."""
    max_observation_chars: Positive = 10000
    """Characters of one observation; the middle of a longer one is cut out."""
    concurrency: Positive = 6
    """Sandboxes that run a command at once (about 3 x cores; more adds latency only)."""


class EvaluationConfig(Section):
    """The held-out evaluation."""

    every_steps: NonNegative = 0
    """Steps between evaluations, with one after the last step; 0 means never (DeepSWE: 10)."""
    untrained: bool = True
    """One of the untrained policy too, which later ones are compared with. Off where its solve rate is known."""
    difficulties: list[Difficulty] = []
    """Bands of the held-out split; empty means all."""
    limit: NonNegative = 0
    """At most this many tasks; 0 means all."""
    group_size: Positive = 1
    """Rollouts a task."""

    def count(self, num_steps: int) -> int:
        """How many a run of so many steps makes."""
        if not self.every_steps:
            return 0
        return self.untrained + -(-num_steps // self.every_steps)


class CheckpointConfig(Section):
    """What is kept of the run."""

    every_steps: NonNegative = 10
    """Steps between checkpoints; a stop and the last step save one as well (DeepSWE: 10)."""
    keep: Positive = 2
    """Newest checkpoints that stay on disk."""


class HardwareConfig(Section):
    """What the recipe is made for; set-up and the estimate compare it with the machine."""

    nodes: Positive = 1
    """Machines."""
    gpus_per_node: NonNegative = 0
    """GPUs on each; 0 means CPU."""
    ranks_per_node: NonNegative = 0
    """Trainer processes on each, which share weights and batch (FSDP2); 0 means one a GPU, or one on a CPU. Engine replicas
    use the GPUs that no rank has, or share them all."""
    gpu_memory_gib: NonNegativeFloat = 0
    """Memory of one GPU, GiB."""
    min_memory_gib: PositiveFloat = 8
    """Memory of one machine, GiB."""
    peak_tflops: NonNegativeFloat = 0
    """Dense bfloat16 TFLOP/s of one GPU or CPU, which MFU is a share of; 0: a GPU's public figure by its name, and a
    CPU's measured at the start."""

    @property
    def ranks(self) -> int:
        """Trainer processes in all."""
        return self.nodes * (self.ranks_per_node or max(1, self.gpus_per_node))


class TrainConfig(Section):
    """A whole run."""

    recipe: str
    """The named recipe this configuration came from."""
    description: str = ""
    """One sentence for people."""
    seed: NonNegative = 0
    """Seeds task order, sampling and initialisation."""
    num_steps: Positive
    """Steps of the run; each is one batch of groups and at most one optimizer step."""
    model: ModelConfig = ModelConfig()
    lora: LoraConfig = LoraConfig()
    tasks: TasksConfig = TasksConfig()
    rollout: RolloutConfig = RolloutConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    engine: EngineConfig = EngineConfig()
    sandbox: SandboxConfig = SandboxConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    hardware: HardwareConfig = HardwareConfig()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if broken := broken_rules(self):
            raise ConfigError(broken)
        return self


def parse_config(data: dict[str, Any]) -> TrainConfig:
    """A configuration from plain data. Raises ConfigError with every field that is wrong."""
    return parse_as(TrainConfig, data)


def load_config(path: Path) -> TrainConfig:
    """A configuration from a TOML file. Raises ConfigError (field "file" when it is no TOML)."""
    return parse_config(read_toml(path))


AnyConfig = TypeVar("AnyConfig", bound=Section)


def parse_as(kind: type[AnyConfig], data: dict[str, Any]) -> AnyConfig:
    """Plain data as a configuration of one kind. Raises ConfigError with every field that is wrong."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise ConfigError(told(error, kind)) from error


def read_toml(path: Path) -> dict[str, Any]:
    """What a configuration file holds. Raises ConfigError (field "file")."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(
            [("file", f"{path}: not found; a run folder holds a {CONFIG_FILE}")]
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([("file", f"{path}: not TOML: {error}")]) from error
