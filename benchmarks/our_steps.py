"""`python -m benchmarks.our_steps WORKLOAD NUM_STEPS OUT`: time steps of this project's trainer.

The real parts of `trainer.train`: vLLM over HTTP, agents in sandboxes with graded patches, the
GRPO++ update and the weight sync. Only the rewards are replaced, after grading, so that every group
is trained. It evaluates nothing and saves no checkpoint.
"""

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import torch
from transformers import AutoTokenizer

from benchmarks.measurement import StepTime, Workload, alternating_rewards, save_steps
from benchmarks.workload import our_config
from sandbox.base import load_backend
from sandbox.pool import Pool
from sandbox.task import load_taskset
from trainer.config import TrainConfig
from trainer.engines.chat import Chat, load_prompt
from trainer.engines.generate import start_engine
from trainer.engines.weights import FileSync
from trainer.events import EventWriter
from trainer.grpo.rollout import ScoredGroup, score_group
from trainer.model.ceiling import TERA, measure_matmul
from trainer.model.policy import load_policy, make_optimizer
from trainer.model.precision import compute_dtype
from trainer.nodes.malloc import keep_freed_pages
from trainer.rollouts.collect import Collector
from trainer.training.update import update


def main() -> int:
    workload_path, num_steps, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    keep_freed_pages()
    save_steps(measure(Workload.load(workload_path), num_steps, out.parent), out)
    return 0


def measure(workload: Workload, num_steps: int, folder: Path) -> list[StepTime]:
    """Take the steps; `folder` receives the engine's log and the rollouts."""
    config = our_config(workload, num_steps)
    by_id = {task.task_id: task for task in load_taskset(config.tasks.taskset).tasks}
    tasks = [by_id[task_id] for task_id in workload.task_ids]
    torch.manual_seed(config.seed)
    dtype = compute_dtype(config.model)
    run = uuid4()
    with ExitStack() as resources:
        events = EventWriter(folder)
        resources.callback(events.close)
        backend = Pool(
            load_backend(config.sandbox.backend), max_operations=config.sandbox.concurrency
        )
        resources.callback(backend.reap, run=str(run))
        resources.callback(backend.close)
        engine = start_engine(config, folder)
        resources.callback(engine.close)
        policy = load_policy(config.model, temperature=config.rollout.temperature)
        optimizer = make_optimizer(policy.model, config.optimizer)
        sync = FileSync(policy, engine, dtype)
        resources.callback(sync.close)
        collector = Collector(
            run=run,
            run_dir=folder,
            config=config,
            engine=engine,
            chat=Chat(AutoTokenizer.from_pretrained(config.model.path)),
            prompt=load_prompt(config.rollout.prompt),
            backend=backend,
            events=events,
            stopping=never,
        )
        steps = []
        for step in range(1, num_steps + 1):
            ceiling_before = measure_matmul(dtype)
            began = time.perf_counter()
            groups = collector.collect(
                tasks, step=step, purpose="train", group_size=workload.group_size
            )
            sampled = time.perf_counter()
            groups = [with_mixed_rewards(group, config) for group in groups]
            result = update(
                policy, optimizer, groups, config, step=step, reference=None, stopping=never
            )
            if not result.updated:
                raise RuntimeError(f"step {step}: {result.reason}; there is no update to time")
            updated = time.perf_counter()
            sync.push(step)
            whole_s = time.perf_counter() - began
            tera_operations, seconds = result.metrics["perf/tflops"]
            steps.append(
                StepTime(
                    sampling_s=sampled - began,
                    update_s=updated - sampled,
                    whole_s=whole_s,
                    update_tflops=tera_operations / seconds,
                    matmul_tflops=(ceiling_before + measure_matmul(dtype)) / 2 / TERA,
                    **token_counts(groups),
                )
            )
    return steps


def never() -> bool:
    return False


def with_mixed_rewards(group: ScoredGroup, config: TrainConfig) -> ScoredGroup:
    """The group, mixed and unfiltered. Raises RuntimeError for an INFRA rollout."""
    for rollout in group.rollouts:
        if rollout.reward is None:
            raise RuntimeError(
                f"rollout {rollout.id} of {rollout.task_id}: INFRA: {rollout.reason}"
            )
    rewards = alternating_rewards(len(group.rollouts))
    for rollout, reward in zip(group.rollouts, rewards, strict=True):
        rollout.reward = reward
    return score_group(group.rollouts, config.algorithm)


def token_counts(groups: list[ScoredGroup]) -> dict[str, int]:
    """The counts of a StepTime."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    return {
        "num_rollouts": len(rollouts),
        "prompt_tokens": sum(len(rollout.prompt_ids) for rollout in rollouts),
        "sampled_tokens": sum(rollout.num_sampled_tokens for rollout in rollouts),
    }


if __name__ == "__main__":
    sys.exit(main())
