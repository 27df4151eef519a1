"""The training loop of GRPO++: collect, score, update, sync, evaluate, checkpoint; `Training.take_step` reads top to bottom.

With several ranks this is the lead's part, which the others follow (`trainer.training.follow`). What it did is in
`RUN_DIR/events.jsonl`; started again on the same folder, it goes on from the newest checkpoint. It deviates from DeepSWE's
release in one default: the ratio's old policy is the sampler's own log-probabilities instead of a recomputation
(`algorithm.old_logprobs`), which saves a forward pass.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import torch

from trainer.config import ConfigError, TrainConfig
from trainer.engines.generate import EngineUnavailable
from trainer.events import (
    CheckpointSaved,
    Evaluated,
    EventWriter,
    LogLine,
    Metric,
    Phase,
    PhaseEnded,
    StepEnded,
    TasksResting,
)
from trainer.grpo.rollout import ScoredGroup
from trainer.metrics.steps import rollout_metrics, step_time_metrics
from trainer.metrics.stopwatch import Stopwatch
from trainer.model.ceiling import find_ceiling
from trainer.model.footprint import check_rank, model_shape
from trainer.nodes.world import ALONE, World
from trainer.rollouts.collect import Collector
from trainer.rollouts.curriculum import resting, resting_metrics
from trainer.rollouts.practice import Practice, load_practice
from trainer.rollouts.resample import Batch, top_up
from trainer.rollouts.staleness import Ahead, staleness_metrics
from trainer.rollouts.task_stream import TaskStream
from trainer.stop import RunStopped
from trainer.training import checkpoint
from trainer.training.checkpoint import Progress
from trainer.training.equipment import Equipment, equipped
from trainer.training.update import UpdateResult, update

log = logging.getLogger(__name__)


def train(
    config: TrainConfig,
    run_dir: Path,
    run: UUID,
    events: EventWriter,
    stopping: Callable[[], bool],
    world: World = ALONE,
) -> Progress:
    """Run `config` to its last step and return where it stands. Saves before it raises RunStopped, EngineUnavailable."""
    check_supported(config)
    practice = load_practice(config)
    torch.manual_seed(config.seed)
    ceiling = find_ceiling(config)
    events.write(LogLine(level="info", text=ceiling.sentence))
    if config.evaluation.every_steps and not practice.held_out:
        text = f"taskset {config.tasks.taskset} holds no tasks out: this run evaluates nothing"
        events.write(LogLine(level="warning", text=text))
    with equipped(config, run_dir, run, events, stopping, world) as equipment:
        training = Training(
            config=config,
            run_dir=run_dir,
            run=run,
            events=events,
            stopping=stopping,
            practice=practice,
            equipment=equipment,
            peak_flops=ceiling.flops_per_s,
        )
        with closing(training):
            try:
                training.resume()
                while training.progress.step < config.num_steps:
                    training.take_step()
            except RunStopped:
                training.save_checkpoint()
                raise
            except EngineUnavailable:
                # by nccl the other ranks may be in the middle of a gather
                if config.engine.weight_sync == "files":
                    training.save_checkpoint()
                raise
    return training.progress


@dataclass(kw_only=True)
class Training:
    """A run from one step to the next; `progress` is where it stands."""

    config: TrainConfig
    run_dir: Path
    run: UUID
    events: EventWriter
    stopping: Callable[[], bool]
    practice: Practice
    equipment: Equipment
    peak_flops: float | None

    def __post_init__(self) -> None:
        progress = self.progress = self.equipment.progress
        self._collector = Collector(
            run=self.run,
            run_dir=self.run_dir,
            config=self.config,
            engine=self.equipment.engine,
            chat=self.practice.chat,
            prompt=self.practice.prompt,
            backend=self.equipment.backend,
            events=self.events,
            stopping=self.stopping,
            renew_weights=lambda: self.equipment.sync.renew(self.progress.policy_version),
        )
        self._stream = TaskStream(
            pool=self.practice.pool,
            config=self.config,
            cursor=progress.cursor,
            history=progress.history,
        )
        group_size = self.config.rollout.group_size
        self._ahead = Ahead(
            self._stream,
            partial(self._collector.begin, purpose="train", group_size=group_size),
            step=progress.step,
            drawn=progress.drawn,
            num_steps=self.config.num_steps,
            max_staleness=self.config.rollout.max_staleness,
        )

    def close(self) -> None:
        self._collector.close()

    def resume(self) -> None:
        """Catch up with a checkpoint, and with evaluations that a stop cut: what the engine has is untrained until the
        policy's weights are pushed.
        """
        if not self.progress.step:
            return
        if self.config.tasks.rest_after_visits:
            tell_resting(self.events, self.progress, self.config)
        self._compare()
        if self.progress.policy_version:
            self._sync()
        self._evaluate_when_due()
        self.save_checkpoint()

    def take_step(self) -> None:
        """One batch of groups and at most one optimizer step, and what is due after it."""
        step, began, spent = self.progress.step + 1, time.monotonic(), Stopwatch()
        self.equipment.watch.step_began(step)
        engine_busy_s = self._collector.engine_clock.busy_s()

        # 1. Groups of graded rollouts, with their advantages; those of later steps go on meanwhile
        with spent.timing("collect"), timed(self.events, step, "rollout"):
            collection = self._ahead.take(step)
            groups = self._collector.finish(collection)
            batch = self._top_up(step, groups)

        # 2. One optimizer step
        with spent.timing("update"), timed(self.events, step, "update"), self._collector.tending():
            result = self._update(step, batch)

        # 3. What it came to
        metrics = self._metrics(batch, max(spent.seconds["collect"], collection.seconds))
        before, self.progress = self.progress, self._after(step, result)
        metrics |= result.metrics | step_time_metrics(
            step_s=time.monotonic() - began,
            collect_s=spent.seconds["collect"],
            update_s=spent.seconds["update"],
            engine_busy_s=self._collector.engine_clock.busy_s() - engine_busy_s,
            generate_s=metrics["time/generate_s"][0],
        )
        self._tell_step(result, metrics)
        tell_resting(self.events, self.progress, self.config, before)

        # 4. The untrained policy on the held-out tasks: only now, so that the first point of the
        #    curve need not wait for it; the engine still has the untrained weights
        self._compare()

        # 5. The new weights go to the engine
        if result.updated:
            self._sync()

        # 6. Evaluate and save when due
        self._evaluate_when_due()
        if step == self.config.num_steps or self._is_due(self.config.checkpoint.every_steps):
            self.save_checkpoint()

    def save_checkpoint(self) -> None:
        """Of the weights where there is none of this step yet, and of where the run stands with them."""
        step = self.progress.step
        if not step:
            return
        if step in checkpoint.list_steps(self.run_dir):
            checkpoint.restate(self.run_dir, self.progress)
            return
        with timed(self.events, step, "checkpoint"), self._collector.tending():
            folder = checkpoint.save(
                self.run_dir,
                self.equipment.policy,
                self.equipment.optimizer,
                self.progress,
                self.practice.tokenizer,
                self.config.checkpoint.keep,
            )
        size = round(checkpoint.size_mib(folder), 1)
        path = folder.relative_to(self.run_dir).as_posix()
        self.events.write(CheckpointSaved(step=step, path=path, size_mib=size))
        self.events.sync()

    def _top_up(self, step: int, groups: list[ScoredGroup]) -> Batch:
        collect = partial(
            self._collector.collect,
            step=step,
            purpose="train",
            group_size=self.config.rollout.group_size,
        )
        return top_up(groups, self._stream, self.config.tasks, collect)

    def _update(self, step: int, batch: Batch) -> UpdateResult:
        return update(
            self.equipment.policy,
            self.equipment.optimizer,
            batch.trained_on,
            self.config,
            step=step,
            reference=self.equipment.reference,
            stopping=self.stopping,
            peak_flops=self.peak_flops,
        )

    def _after(self, step: int, result: UpdateResult) -> Progress:
        return self.progress._replace(
            step=step,
            policy_version=self.progress.policy_version + result.updated,
            cursor=self._stream.cursor,
            history=self._stream.history,
            drawn=self._ahead.drawn,
        )

    def _metrics(self, batch: Batch, seconds: float) -> dict[str, Metric]:
        """Of a batch that took so long, for an update that starts from `progress`."""
        return (
            rollout_metrics(batch.drawn, seconds)
            | batch.metrics()
            | resting_metrics(self._stream.history, self.config.tasks)
            | staleness_metrics(batch.trained_on, self.progress.policy_version)
        )

    def _tell_step(self, result: UpdateResult, metrics: dict[str, Metric]) -> None:
        step = self.progress.step
        if not result.updated:
            self.events.write(LogLine(level="warning", text=f"step {step}: {result.reason}"))
        ended = StepEnded(
            step=step,
            policy_version=self.progress.policy_version,
            updated=result.updated,
            seconds=round(metrics["time/step_s"][0], 3),
            metrics=metrics,
        )
        self.events.write(ended)
        self.equipment.watch.step_ended(ended)
        log.info("step %d of %d ended", step, self.config.num_steps)

    def _sync(self) -> None:
        if self.stopping():
            raise RunStopped  # whoever looked after the engine meanwhile has closed it
        with timed(self.events, self.progress.step, "sync"):
            self.equipment.sync.push(self.progress.policy_version)

    def _compare(self) -> None:
        """Evaluate the untrained policy, which later evaluations are compared with, where that is wanted and not done."""
        wanted = self.config.evaluation.untrained and not self.progress.compared
        if self.practice.held_out and wanted:
            self._evaluate(Progress())
        self.progress = self.progress._replace(compared=True)

    def _evaluate_when_due(self) -> None:
        due_now = self._is_due(self.config.evaluation.every_steps)
        if self.practice.held_out and due_now and self.progress.evaluated < self.progress.step:
            self._evaluate(self.progress)
            self.progress = self.progress._replace(evaluated=self.progress.step)

    def _evaluate(self, at: Progress) -> None:
        with timed(self.events, at.step, "evaluate"):
            began = time.monotonic()
            groups = self._collector.collect(
                self.practice.held_out,
                step=at.step,
                purpose="evaluation",
                group_size=self.config.evaluation.group_size,
            )
            seconds = time.monotonic() - began
            self.events.write(evaluated(groups, at, self.config, seconds))

    def _is_due(self, every_steps: int) -> bool:
        return due(self.progress.step, every_steps, self.config.num_steps)


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
