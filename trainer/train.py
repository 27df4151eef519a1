"""The training loop of GRPO++: collect, score, update, sync, evaluate, checkpoint; it reads top to bottom.

With several ranks this is the lead's part, which the others follow (`trainer.follow`). What it did is in
`RUN_DIR/events.jsonl`; started again on the same folder, it goes on from the newest checkpoint. It deviates from DeepSWE's
release in one default: the ratio's old policy is the sampler's own log-probabilities instead of a recomputation
(`algorithm.old_logprobs`), which saves a forward pass.
"""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

import torch
from transformers import AutoTokenizer

from sandbox.deployment import configured_backend
from sandbox.pool import Pool
from sandbox.task import Task, Taskset, load_taskset
from trainer import checkpoint
from trainer.alarm_watch import AlarmWatch
from trainer.ceiling import find_ceiling
from trainer.chat import Chat, Prompt, load_prompt
from trainer.checkpoint import Progress
from trainer.collect import Collector
from trainer.config import ConfigError, TrainConfig
from trainer.curriculum import resting, resting_metrics
from trainer.events import (
    CheckpointSaved,
    Evaluated,
    EventWriter,
    LogLine,
    Phase,
    PhaseEnded,
    StepEnded,
    TasksResting,
)
from trainer.follow import load_state
from trainer.footprint import check_rank, model_shape
from trainer.generate import start_engine
from trainer.metrics import rollout_metrics, step_time_metrics
from trainer.resample import top_up
from trainer.rollout import ScoredGroup
from trainer.staleness import Ahead, staleness_metrics
from trainer.stop import RunStopped
from trainer.task_stream import TaskStream
from trainer.update import update
from trainer.weights import start_sync
from trainer.world import ALONE, World

log = logging.getLogger(__name__)


def train(
    config: TrainConfig,
    run_dir: Path,
    run: UUID,
    events: EventWriter,
    stopping: Callable[[], bool],
    world: World = ALONE,
) -> Progress:
    """Run `config` to its last step and return where it stands. Raises RunStopped after saving a checkpoint."""
    # 1. What is practised, and on what
    check_supported(config)
    taskset = load_taskset(config.tasks.taskset)
    pool = training_tasks(taskset, config)
    held_out = evaluation_tasks(taskset, config)
    prompt = load_prompt(config.rollout.prompt)
    tokenizer = AutoTokenizer.from_pretrained(config.model.path)
    chat = Chat(tokenizer)
    check_prompts(pool + held_out, prompt, chat, config)
    torch.manual_seed(config.seed)

    ceiling = find_ceiling(config)
    events.write(LogLine(level="info", text=ceiling.sentence))

    with ExitStack() as resources:
        # 2. Policy, optimizer and engine, loaded side by side
        watch = AlarmWatch(run_dir, events)
        resources.callback(watch.close)
        loader = resources.enter_context(ThreadPoolExecutor(1, "load"))
        loading = loader.submit(load_state, config, run_dir, world)
        backend = Pool(
            configured_backend(config.sandbox.backend), max_operations=config.sandbox.concurrency
        )
        resources.callback(backend.reap, run=str(run))
        resources.callback(backend.close)
        backend.reap(run=str(run))
        engine = start_engine(config, run_dir, stopping)
        resources.callback(engine.close)
        policy, optimizer, reference, progress = loading.result()
        dtype = getattr(torch, config.model.dtype)
        sync = start_sync(config.engine.weight_sync, policy, engine, dtype)
        resources.callback(sync.close)
        collector = Collector(
            run=run,
            run_dir=run_dir,
            config=config,
            engine=engine,
            chat=chat,
            prompt=prompt,
            backend=backend,
            events=events,
            stopping=stopping,
            renew_weights=lambda: sync.renew(progress.policy_version),
        )
        resources.callback(collector.close)

        stream = TaskStream(
            pool=pool, config=config, cursor=progress.cursor, history=progress.history
        )
        group_size = config.rollout.group_size
        collect = partial(collector.collect, purpose="train", group_size=group_size)
        ahead = Ahead(
            stream,
            partial(collector.begin, purpose="train", group_size=group_size),
            step=progress.step,
            drawn=progress.drawn,
            num_steps=config.num_steps,
            max_staleness=config.rollout.max_staleness,
        )

        def save_checkpoint() -> None:
            if progress.step in checkpoint.list_steps(run_dir):
                return
            with timed(events, progress.step, "checkpoint"), collector.tending():
                folder = checkpoint.save(
                    run_dir, policy, optimizer, progress, tokenizer, config.checkpoint.keep
                )
            size = round(checkpoint.size_mib(folder), 1)
            path = folder.relative_to(run_dir).as_posix()
            events.write(CheckpointSaved(step=progress.step, path=path, size_mib=size))
            events.sync()

        def evaluate(at: Progress) -> None:
            with timed(events, at.step, "evaluate"):
                began = time.monotonic()
                groups = collector.collect(
                    held_out,
                    step=at.step,
                    purpose="evaluation",
                    group_size=config.evaluation.group_size,
                )
                events.write(evaluated(groups, at, config, time.monotonic() - began))

        def compare() -> Progress:
            if held_out and not progress.compared:
                evaluate(Progress())
            return progress._replace(compared=True)

        try:
            # 3. A resumed run: what the engine has is untrained until the policy's weights are pushed
            if progress.step:
                if config.tasks.rest_after_visits:
                    tell_resting(events, progress, config)
                progress = compare()
            if progress.policy_version:
                with timed(events, progress.step, "sync"):
                    sync.push(progress.policy_version)

            while progress.step < config.num_steps:
                step, began = progress.step + 1, time.monotonic()
                watch.step_began(step)
                engine_busy_s = collector.engine_clock.busy_s()

                # 4. Groups of graded rollouts, with their advantages; those of later steps go on meanwhile
                with timed(events, step, "rollout"):
                    collection = ahead.take(step)
                    groups = collector.finish(collection)
                    batch = top_up(groups, stream, config.tasks, partial(collect, step=step))
                collected_s = time.monotonic() - began

                # 5. One optimizer step
                with timed(events, step, "update"), collector.tending():
                    result = update(
                        policy,
                        optimizer,
                        batch.trained_on,
                        config,
                        step=step,
                        reference=reference,
                        stopping=stopping,
                        peak_flops=ceiling.flops_per_s,
                    )
                updated_s = time.monotonic() - began - collected_s
                metrics = rollout_metrics(batch.drawn, max(collected_s, collection.seconds))
                metrics |= batch.metrics() | resting_metrics(stream.history, config.tasks)
                metrics |= staleness_metrics(batch.trained_on, progress.policy_version)
                before, progress = (
                    progress,
                    progress._replace(
                        step=step,
                        policy_version=progress.policy_version + result.updated,
                        cursor=stream.cursor,
                        history=stream.history,
                        drawn=ahead.drawn,
                    ),
                )
                if not result.updated:
                    events.write(LogLine(level="warning", text=f"step {step}: {result.reason}"))
                times = step_time_metrics(
                    step_s=time.monotonic() - began,
                    collect_s=collected_s,
                    update_s=updated_s,
                    engine_busy_s=collector.engine_clock.busy_s() - engine_busy_s,
                    generate_s=metrics["time/generate_s"][0],
                )
                ended = StepEnded(
                    step=step,
                    policy_version=progress.policy_version,
                    updated=result.updated,
                    seconds=round(times["time/step_s"][0], 3),
                    metrics=metrics | result.metrics | times,
                )
                events.write(ended)
                watch.step_ended(ended)
                tell_resting(events, progress, config, before)
                log.info("step %d of %d ended", step, config.num_steps)

                # 6. The untrained policy on the held-out tasks: only now, so that the first point of the
                #    curve need not wait for it; the engine still has the untrained weights
                progress = compare()

                # 7. The new weights go to the engine
                if result.updated:
                    with timed(events, step, "sync"):
                        sync.push(progress.policy_version)

                # 8. Evaluate and save when due
                if held_out and due(step, config.evaluation.every_steps, config.num_steps):
                    evaluate(progress)
                if due(step, config.checkpoint.every_steps, config.num_steps):
                    save_checkpoint()
        except RunStopped:
            if progress.step:
                save_checkpoint()
            raise
    return progress


def check_supported(config: TrainConfig) -> None:
    """Raises ConfigError for what the configuration can say and this version cannot do."""
    engine, hardware = config.engine, config.hardware
    if 0 < hardware.gpus_per_node < engine.replicas * engine.tensor_parallel:
        message = (
            f"{engine.replicas} x tensor_parallel={engine.tensor_parallel}: this version starts engines on the first node, "
            f"which has {hardware.gpus_per_node} GPUs"
        )
        raise ConfigError([("engine.replicas", message)])
    if shape := model_shape(config.model.path):
        check_rank(shape, config.lora)


def training_tasks(taskset: Taskset, config: TrainConfig) -> list[Task]:
    """The run's training pool. Raises ConfigError when a named task is not there or nothing is left."""
    pool = taskset.select(split="train", difficulties=tuple(config.tasks.difficulties))
    if config.tasks.only:
        names = {f"{taskset.name}/{name}" for name in config.tasks.only}
        if unknown := names - {task.task_id for task in pool}:
            raise ConfigError(
                [
                    (
                        "tasks.only",
                        f"{', '.join(sorted(unknown))}: not a training task of these bands",
                    )
                ]
            )
        pool = [task for task in pool if task.task_id in names]
    if not pool:
        message = f"{config.tasks.difficulties}: taskset {taskset.name} has no such training task"
        raise ConfigError([("tasks.difficulties", message)])
    return pool[: config.tasks.limit or None]


def evaluation_tasks(taskset: Taskset, config: TrainConfig) -> list[Task]:
    """The held-out tasks of the run's evaluations; empty when it makes none."""
    if not config.evaluation.every_steps:
        return []
    return taskset.select(
        split="heldout",
        difficulties=tuple(config.evaluation.difficulties),
        limit=config.evaluation.limit,
    )


def check_prompts(tasks: list[Task], prompt: Prompt, chat: Chat, config: TrainConfig) -> None:
    """Raises ConfigError naming the first task whose prompt is too long."""
    limit = config.rollout.max_prompt_tokens
    for task in tasks:
        length = len(chat.encode_prompt(prompt.messages(task)))
        if length > limit:
            raise ConfigError(
                [
                    (
                        "rollout.max_prompt_tokens",
                        f"{limit}: the prompt of {task.task_id} has {length} tokens; raise it",
                    )
                ]
            )


def tell_resting(
    events: EventWriter, progress: Progress, config: TrainConfig, before: Progress | None = None
) -> None:
    """Write which tasks the curriculum leaves out; after a step only when they are others than `before`."""
    tasks = resting(progress.history, config.tasks)
    if before is None or tasks != resting(before.history, config.tasks):
        events.write(TasksResting(step=progress.step, tasks=tasks))


def due(step: int, every_steps: int, num_steps: int) -> bool:
    """Every `every_steps` steps (0: never), and at the last step."""
    return bool(every_steps) and (step % every_steps == 0 or step == num_steps)


def evaluated(
    groups: list[ScoredGroup], progress: Progress, config: TrainConfig, seconds: float
) -> Evaluated:
    """The event of an evaluation. INFRA rollouts leave no score."""
    scores = {
        g.rollouts[0].task_id: [r.reward for r in g.rollouts if r.reward is not None]
        for g in groups
    }
    rewards = [reward for values in scores.values() for reward in values]
    return Evaluated(
        step=progress.step,
        policy_version=progress.policy_version,
        num_tasks=len(groups),
        group_size=config.evaluation.group_size,
        mean_reward=sum(rewards) / len(rewards) if rewards else 0.0,
        scores=scores,
        seconds=round(seconds, 3),
    )


@contextmanager
def timed(events: EventWriter, step: int, phase: Phase) -> Iterator[None]:
    """Write how long a phase took, also when it ends by an exception."""
    began = time.monotonic()
    try:
        yield
    finally:
        events.write(PhaseEnded(step=step, phase=phase, seconds=round(time.monotonic() - began, 3)))
