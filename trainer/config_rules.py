"""What a run's fields must be to one another, which no single field can see. Light: standard library and pydantic only.

What one field may hold is its type (`trainer.config`); what this version cannot do yet is `trainer.train.check_supported`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trainer.config_faults import Fault

if TYPE_CHECKING:
    from trainer.config import TrainConfig


def broken_rules(c: "TrainConfig") -> list[Fault]:
    """Every (field, message) pair; empty: the configuration is possible."""
    return [
        *_lora(c),
        *_rollout(c),
        *_algorithm(c),
        *_engine(c),
        *_weight_sync(c),
        *_gpus(c),
        *_repeated(c),
    ]


def _lora(c: "TrainConfig") -> Iterator[Fault]:
    if c.lora.rank > 0 and not c.lora.targets:
        message = f"[]: leaves nothing to train with rank={c.lora.rank}; name projections, or set rank = 0"
        yield "lora.targets", message


def _rollout(c: "TrainConfig") -> Iterator[Fault]:
    rollout, algorithm = c.rollout, c.algorithm
    if algorithm.baseline == "leave_one_out" and rollout.group_size < 2:
        message = f"{rollout.group_size}: needs at least 2 for a leave-one-out baseline"
        yield "rollout.group_size", message
    if rollout.max_turn_tokens > rollout.max_response_tokens:
        yield (
            "rollout.max_turn_tokens",
            f"{rollout.max_turn_tokens}: more than max_response_tokens={rollout.max_response_tokens}; lower it",
        )
    uncorrected = (
        algorithm.old_logprobs == "recomputed" and algorithm.importance_correction == "none"
    )
    if rollout.max_staleness > 0 and uncorrected:
        yield (
            "rollout.max_staleness",
            f"{rollout.max_staleness}: nothing corrects for the age of the tokens; set "
            'importance_correction = "tis" or "icepop", or old_logprobs = "sampled"',
        )


def _algorithm(c: "TrainConfig") -> Iterator[Fault]:
    algorithm = c.algorithm
    if algorithm.clip_ratio_high < algorithm.clip_ratio_low:
        yield (
            "algorithm.clip_ratio_high",
            f"{algorithm.clip_ratio_high}: less than clip_ratio_low={algorithm.clip_ratio_low}; "
            "make it equal (symmetric) or larger",
        )
    if algorithm.importance_correction != "none" and algorithm.old_logprobs == "sampled":
        yield (
            "algorithm.importance_correction",
            f"{algorithm.importance_correction}: corrects nothing while the sampler is the old policy; "
            'set old_logprobs = "recomputed", or none',
        )


def _engine(c: "TrainConfig") -> Iterator[Fault]:
    longest = c.rollout.max_prompt_tokens + c.rollout.max_response_tokens
    if c.engine.max_model_len < longest:
        yield (
            "engine.max_model_len",
            f"{c.engine.max_model_len}: less than max_prompt_tokens + max_response_tokens = {longest}; raise it",
        )
    if c.engine.kind == "transformers" and c.engine.replicas * c.engine.tensor_parallel > 1:
        yield (
            "engine.kind",
            "transformers: generates in one process; choose vllm, or replicas = 1 and tensor_parallel = 1",
        )


def _weight_sync(c: "TrainConfig") -> Iterator[Fault]:
    if c.engine.weight_sync != "nccl":
        return
    ranks_per_node = c.hardware.ranks // c.hardware.nodes
    engine_gpus = c.engine.replicas * c.engine.tensor_parallel
    if c.hardware.gpus_per_node == 0:
        yield "engine.weight_sync", "nccl: needs GPUs; choose files"
    elif c.hardware.gpus_per_node < engine_gpus + ranks_per_node:
        yield (
            "engine.weight_sync",
            f"nccl: cannot link two processes on one GPU, and {ranks_per_node} ranks beside {engine_gpus} GPUs of engines are "
            f"more than the first node's {c.hardware.gpus_per_node}; lower hardware.ranks_per_node, or choose files",
        )
    if c.engine.kind == "transformers":
        yield (
            "engine.weight_sync",
            "nccl: is vLLM's transfer, and engine.kind is transformers; choose files",
        )


def _gpus(c: "TrainConfig") -> Iterator[Fault]:
    engine, hardware = c.engine, c.hardware
    num_gpus = hardware.nodes * hardware.gpus_per_node
    engine_gpus = engine.replicas * engine.tensor_parallel
    asked = f"{engine.replicas} x tensor_parallel={engine.tensor_parallel}"
    if num_gpus == 0 and engine_gpus > 1:
        yield "engine.replicas", f"{asked}: a CPU recipe runs one engine process"
    if 0 < num_gpus < engine_gpus:
        yield (
            "engine.replicas",
            f"{asked}: more than the {num_gpus} GPUs of hardware.nodes x gpus_per_node; lower one of them",
        )
    if 0 < hardware.gpus_per_node < hardware.ranks_per_node:
        yield (
            "hardware.ranks_per_node",
            f"{hardware.ranks_per_node}: more than gpus_per_node={hardware.gpus_per_node}; one a GPU at most",
        )


def _repeated(c: "TrainConfig") -> Iterator[Fault]:
    lists: dict[str, list[str]] = {
        "tasks.difficulties": [*c.tasks.difficulties],
        "tasks.only": c.tasks.only,
        "lora.targets": [*c.lora.targets],
        "algorithm.compact_filtering": [*c.algorithm.compact_filtering],
        "evaluation.difficulties": [*c.evaluation.difficulties],
    }
    for field, values in lists.items():
        if len(set(values)) < len(values):
            yield field, f"{values}: names one twice; name each once"
