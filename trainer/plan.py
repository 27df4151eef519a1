"""`python -m trainer RECIPE --dry-run`: what a run would do, what it needs, and what this machine lacks for it.

Counts are exact, memory and disk as `trainer.model.footprint` says. It loads no model, starts nothing and downloads nothing;
that the engine's own overhead also fits is only known once it runs.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import TasksetError
from sandbox.task import load_taskset
from trainer.config import ConfigError, TrainConfig
from trainer.model.blocks import MOST_QUERIES
from trainer.model.footprint import (
    GIB,
    Disk,
    EngineMemory,
    ModelShape,
    TrainerMemory,
    check_rank,
    disk_use,
    engine_memory,
    handover_bytes,
    model_shape,
    trainer_memory,
)
from trainer.model.head import TILE_TOKENS, TILE_VOCABULARY
from trainer.model.precision import name_of, planned_dtype
from trainer.nodes.gpus import engine_gpus
from trainer.nodes.machine import Machine, this_machine
from trainer.rollouts.practice import evaluation_tasks, training_tasks


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """How many tasks a run has; None where the taskset is not here."""

    train: int | None
    held_out: int | None


@dataclass(frozen=True, kw_only=True)
class Work:
    """Counts of a whole run."""

    rollouts_per_step: int
    tokens_per_step: int
    """Sampled and observed, if every rollout used its whole response."""
    num_evaluations: int
    rollouts_per_evaluation: int | None
    """None where the number of held-out tasks is not known."""
    num_rollouts: int
    """All training rollouts, extra groups included, and those of evaluations as far as they are known."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    ranks: int
    trainer: TrainerMemory
    engine: EngineMemory
    handover: float
    """Bytes of memory-backed disk."""
    sandboxes: float
    """Bytes that sandboxes may use at most while they run commands."""


def print_plan(config: TrainConfig) -> int:
    """Print the plan. 0 when this machine can run it, 1 when it lacks something, 2 when no machine could."""
    machine = this_machine(Path.cwd())
    shape = model_shape(config.model.path)
    try:
        tasks = count_tasks(config)
        if shape:
            check_rank(shape, config.lora)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    work = count_work(config, tasks)
    memory = plan_memory(shape, config) if shape else None
    disk = disk_use(shape, config, num_rollouts=work.num_rollouts) if shape else None
    missing = lacking(config, machine, tasks, memory, disk)
    lines = [
        f"{config.recipe}: {config.description}",
        *_describe_work(config, tasks, work),
        *(_describe_memory(config, shape, memory) if shape and memory else []),
        *(_describe_disk(config, disk) if disk else []),
        *_describe_machine(machine),
        *(["This machine lacks:", *(f"  - {what}" for what in missing)] if missing else []),
        "This machine cannot run it." if missing else "This machine can run it.",
    ]
    print("\n".join(lines))
    return 1 if missing else 0


def count_tasks(config: TrainConfig) -> Tasks:
    """The tasks that the run would train on, and those of its evaluations. Raises ConfigError when it has none."""
    try:
        taskset = load_taskset(config.tasks.taskset)
    except TasksetError:
        return Tasks(train=None, held_out=None)
    return Tasks(
        train=len(training_tasks(taskset, config)), held_out=len(evaluation_tasks(taskset, config))
    )


def count_work(config: TrainConfig, tasks: Tasks) -> Work:
    per_step = config.tasks.tasks_per_step * config.rollout.group_size
    extra = config.tasks.max_extra_groups * config.rollout.group_size
    evaluations = config.evaluation.count(config.num_steps)
    per_evaluation = (
        None if tasks.held_out is None else tasks.held_out * config.evaluation.group_size
    )
    return Work(
        rollouts_per_step=per_step,
        tokens_per_step=per_step * config.rollout.max_response_tokens,
        num_evaluations=evaluations,
        rollouts_per_evaluation=per_evaluation,
        num_rollouts=config.num_steps * (per_step + extra) + evaluations * (per_evaluation or 0),
    )


def plan_memory(shape: ModelShape, config: TrainConfig) -> Memory:
    ranks = config.hardware.ranks
    commands = min(config.sandbox.concurrency, config.rollout.concurrency)
    return Memory(
        ranks=ranks,
        trainer=trainer_memory(
            shape, config, ranks=ranks, logit_tile=_logit_tile(config), block_queries=MOST_QUERIES
        ),
        engine=engine_memory(shape, config),
        handover=handover_bytes(shape, config),
        sandboxes=float(commands * config.sandbox.memory_mib * 2**20),
    )


def lacking(
    config: TrainConfig,
    machine: Machine,
    tasks: Tasks,
    memory: Memory | None,
    disk: Disk | None,
) -> list[str]:
    """What this machine, or this version, lacks for the run; empty when nothing."""
    return [
        *_lacking_parts(config, machine, tasks, memory),
        *_lacking_gpus(config, machine, memory),
        *_lacking_memory(config, machine, memory),
        *_lacking_disk(machine, disk),
    ]


def _lacking_parts(
    config: TrainConfig, machine: Machine, tasks: Tasks, memory: Memory | None
) -> list[str]:
    path, backend = config.model.path, config.sandbox.backend
    missing = []
    if memory is None:
        missing.append(f"the shape of model {path}: download it, and set model.path to its folder")
    elif not (Path(path) / "config.json").is_file():
        missing.append(
            f"model {path}: no such folder; make setup, or download it and set model.path"
        )
    if config.engine.kind == "vllm" and not machine.has_vllm:
        missing.append("vllm: make setup installs it; engine.kind = transformers is slower")
    if backend not in machine.sandbox_backends:
        here = ", ".join(machine.sandbox_backends) or "none"
        missing.append(
            f"sandbox backend {backend} (there are: {here}): install it or choose another"
        )
    if tasks.train is None:
        missing.append(f"taskset {config.tasks.taskset}: not bundled; give a taskset's folder")
    return missing


def _lacking_gpus(config: TrainConfig, machine: Machine, memory: Memory | None) -> list[str]:
    hardware, engine = config.hardware, config.engine
    missing = []
    wanted = hardware.gpus_per_node
    have = len(machine.gpu_memory_bytes)
    if have < wanted:
        missing.append(f"GPUs: {have} of {wanted} on each of {hardware.nodes} node(s)")
    small = [
        g for g in machine.gpu_memory_bytes[:wanted] if g < 0.95 * hardware.gpu_memory_gib * GIB
    ]
    if small:
        missing.append(f"GPU memory: {_gib(min(small))} of {hardware.gpu_memory_gib:g} GiB")
    if wanted and memory is not None:
        needed = memory.trainer.total
        if engine_gpus(config, 0)[0] == 0:
            needed += engine.gpu_memory_utilization * hardware.gpu_memory_gib * GIB
        if needed > hardware.gpu_memory_gib * GIB:
            missing.append(
                f"room on a GPU: what shares one needs {_gib(needed)} of "
                f"{hardware.gpu_memory_gib:g} GiB; lower gpu_memory_utilization or max_response_tokens"
            )
        if memory.engine.num_full_sequences < 1:
            missing.append(
                "KV cache: less than one sequence of engine.max_model_len; raise tensor_parallel"
            )
    if 0 < wanted < engine.replicas * engine.tensor_parallel:
        missing.append("engine replicas on other nodes: this version starts them on the first")
    return missing


def _lacking_memory(config: TrainConfig, machine: Machine, memory: Memory | None) -> list[str]:
    needed = config.hardware.min_memory_gib * GIB
    if memory is not None and not config.hardware.gpus_per_node:
        ranks_here = memory.ranks // config.hardware.nodes
        trainers = ranks_here * memory.trainer.total
        needed = max(needed, trainers + memory.engine.total + memory.handover)
    if machine.memory_bytes < 0.95 * needed:
        return [f"memory: {_gib(machine.memory_bytes)} of {_gib(needed)}"]
    return []


def _lacking_disk(machine: Machine, disk: Disk | None) -> list[str]:
    if disk is not None and machine.disk_free_bytes < disk.total:
        return [f"free disk space: {_gib(machine.disk_free_bytes)} of {_gib(disk.total)}"]
    return []


def _describe_work(config: TrainConfig, tasks: Tasks, work: Work) -> list[str]:
    rollout = config.rollout
    lines = [
        "",
        "Plan",
        f"  tasks            {_known(tasks.train)} to train on, {_known(tasks.held_out)} held out "
        f"(taskset {config.tasks.taskset})",
        f"  steps            {config.num_steps}",
        f"  a step           {config.tasks.tasks_per_step} groups of {rollout.group_size} = "
        f"{work.rollouts_per_step} rollouts, {rollout.max_turns} turns at most",
        f"  tokens a step    {work.tokens_per_step:,} at most "
        f"({rollout.max_response_tokens:,} a rollout, after a prompt of {rollout.max_prompt_tokens:,} at most)",
    ]
    if config.tasks.max_extra_groups:
        lines.append(f"  extra groups     {config.tasks.max_extra_groups} a step at most")
    if work.num_evaluations:
        lines.append(
            f"  evaluations      {work.num_evaluations} of {_known(work.rollouts_per_evaluation)} rollouts"
        )
    return [*lines, f"  rollouts in all  {work.num_rollouts:,}"]


def _logit_tile(config: TrainConfig) -> int:
    """Logits that exist at once."""
    return TILE_TOKENS * TILE_VOCABULARY["cuda" if config.hardware.gpus_per_node else "cpu"]


def _describe_memory(config: TrainConfig, shape: ModelShape, memory: Memory) -> list[str]:
    trainer, engine, hardware = memory.trainer, memory.engine, config.hardware
    kind = "GPU" if hardware.gpus_per_node else "CPU"
    where = f"each of {memory.ranks} ranks on {kind}s" if memory.ranks > 1 else kind
    lines = [
        "",
        f"Memory ({shape.num_parameters:,} parameters)",
        f"  trainer, {where}",
        f"    weights        {_gib(trainer.weights)} (float32{_describe_adapter(config, shape)})",
        f"    gradients      {_gib(trainer.gradients)}",
        f"    AdamW          {_gib(trainer.optimizer)}",
        *([f"    gathered       {_gib(trainer.gathered)} (estimate)"] if trainer.gathered else []),
        f"    activations    {_gib(trainer.activations)} (estimate)",
        f"    logits         {_gib(trainer.logits)} ({_logit_tile(config):,} at once)",
        f"    together       {_gib(trainer.total)}",
        f"  engine, {config.engine.replicas} replica(s), each on {config.engine.tensor_parallel} "
        f"{'GPU(s), of each' if hardware.gpus_per_node else 'process'}",
        f"    weights        {_gib(engine.weights)} ({name_of(planned_dtype(config))})",
        f"    KV cache       {_gib(engine.kv_cache)}: {engine.num_full_sequences} rollouts of full length",
    ]
    if memory.handover:
        lines.append(f"  weight hand-over {_gib(memory.handover)} of memory-backed disk")
    return [*lines, f"  sandboxes        {_gib(memory.sandboxes)} at most"]


def _describe_adapter(config: TrainConfig, shape: ModelShape) -> str:
    adapter = shape.num_adapter_parameters(config.lora)
    return f", {adapter:,} trained by LoRA" if adapter else ""


def _describe_disk(config: TrainConfig, disk: Disk) -> list[str]:
    return [
        "",
        "Disk",
        f"  checkpoints      {_gib(disk.checkpoints)} ({config.checkpoint.keep} kept, one being written)",
        f"  rollouts         {_gib(disk.rollouts)} at most",
    ]


def _describe_machine(machine: Machine) -> list[str]:
    gpus = ", ".join(_gib(g) for g in machine.gpu_memory_bytes) or "none"
    return [
        "",
        f"This machine: {machine.cores} cores, {_gib(machine.memory_bytes)} of memory, "
        f"{_gib(machine.disk_free_bytes)} of free disk, GPUs: {gpus}",
    ]


def _known(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def _gib(size: float) -> str:
    return f"{size / GIB:,.1f} GiB"
