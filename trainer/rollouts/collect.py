"""Tasks -> groups of graded rollouts, with bounded concurrency and an event for all that happens.

A rollout is one thread from prompt to grade, so no rollout waits for another's turn, and the next one begins where one ends,
of whichever batch. A group is scored as soon as its last rollout is graded. Which tasks, and what becomes of the groups, is
`trainer.train`'s business; how many batches are begun at once `trainer.rollouts.staleness`'s.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np

from sandbox.base import SandboxLabels
from sandbox.environment import Environment, GradeCache, Limits
from sandbox.errors import Outcome
from sandbox.pool import Pool
from sandbox.task import Task
from sandbox.trajectory import Turn
from trainer.config import SandboxConfig, TrainConfig
from trainer.engines.chat import Chat, Prompt
from trainer.engines.generate import Engine, EngineUnavailable
from trainer.events import (
    EventWriter,
    GroupScored,
    Purpose,
    RolloutFinished,
    RolloutStarted,
    TurnEnded,
)
from trainer.grpo.rollout import Rollout, ScoredGroup, score_group
from trainer.metrics.stopwatch import BusyClock
from trainer.rollouts.agent import Agent
from trainer.rollouts.slots import Slots
from trainer.stop import RunStopped

log = logging.getLogger(__name__)

REVIVE_EVERY_S = 0.5
LEASE_MARGIN_S = 120.0
MAX_EVENT_PATCH_BYTES = 64 << 10
"""A larger patch is a file beside the events, and only its beginning is in the event; one that is not UTF-8 is a file too."""


class Collection:
    """Groups whose rollouts were begun together; `Collector.finish` waits for them."""

    def __init__(self, groups: list[list[Rollout]]) -> None:
        self.groups = groups
        self.scored: list[ScoredGroup | None] = [None] * len(groups)
        self.rollouts_done: list[Future[None]] = []
        self.seconds = 0.0
        """From the beginning to the last rollout's grade."""
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._waiting = [len(group) for group in groups]

    def count_ended(self, index: int) -> bool:
        """One more rollout of group `index` has ended; whether it was the group's last."""
        with self._lock:
            self._waiting[index] -= 1
            self.seconds = time.monotonic() - self._began
            return not self._waiting[index]


@dataclass(kw_only=True)
class Collector:
    """Runs groups of rollouts, at most `rollout.concurrency` rollouts at once. One thread begins and finishes them."""

    run: UUID
    run_dir: Path
    config: TrainConfig
    engine: Engine
    chat: Chat
    prompt: Prompt
    backend: Pool
    events: EventWriter
    stopping: Callable[[], bool]
    renew_weights: Callable[[], None] = lambda: None
    """Called now and then while rollouts go on: `WeightSync.renew`."""
    _closed: threading.Event = field(default_factory=threading.Event, init=False)

    def __post_init__(self) -> None:
        self.engine_clock = BusyClock()
        self._slots = Slots(self.config.rollout.concurrency)
        self._grades = GradeCache()
        self._limits = limits_of(self.config.sandbox)
        self._agent = Agent(
            engine=self.engine,
            chat=self.chat,
            limits=self.config.rollout,
            stopping=self._given_up,
            on_turn=self._on_turn,
            engine_clock=self.engine_clock,
        )

    def collect(
        self, tasks: Sequence[Task], *, step: int, purpose: Purpose, group_size: int
    ) -> list[ScoredGroup]:
        """One scored group a task, in the order of `tasks`. Raises RunStopped once every rollout has ended."""
        return self.finish(self.begin(tasks, step=step, purpose=purpose, group_size=group_size))

    def begin(
        self, tasks: Sequence[Task], *, step: int, purpose: Purpose, group_size: int
    ) -> Collection:
        """Begin a group a task. An evaluation's rollouts go before those that wait, and an earlier step's."""
        before = [sum(other is task for other in tasks[:i]) for i, task in enumerate(tasks)]
        groups = [
            self._new_group(task, step, purpose, group_size, repetition)
            for task, repetition in zip(tasks, before, strict=True)
        ]
        collection = Collection(groups)
        urgency = step if purpose == "train" else 0
        for index, (task, group) in enumerate(zip(tasks, collection.groups, strict=True)):
            for rollout in group:
                run = partial(self._run, task, rollout, collection, index)
                collection.rollouts_done.append(self._slots.submit(run, urgency=urgency))
        return collection

    def finish(self, collection: Collection) -> list[ScoredGroup]:
        """The scored groups, in the order of their tasks. Raises RunStopped once every rollout has ended."""
        pending = set(collection.rollouts_done)
        while pending:
            done, pending = wait(pending, timeout=REVIVE_EVERY_S, return_when=FIRST_EXCEPTION)
            self._tend()
            for future in done:
                future.result()
        if self.stopping():
            raise RunStopped
        return [group for group in collection.scored if group is not None]

    @contextmanager
    def tending(self) -> Iterator[None]:
        """What is in flight is looked after while the caller does something else, as `finish` does while it waits."""
        if not self.config.rollout.max_staleness:
            yield
            return
        ended = threading.Event()
        tender = threading.Thread(target=self._tend_until, args=[ended], name="tender")
        tender.start()
        try:
            yield
        finally:
            ended.set()
            tender.join()

    def close(self) -> None:
        """Give up every rollout in flight, which ends as INFRA; engine and sandboxes are closed with them."""
        self._closed.set()
        self.engine.close()
        self.backend.close()
        self._slots.close()

    def _given_up(self) -> bool:
        return self._closed.is_set() or self.stopping()

    def _tend_until(self, ended: threading.Event) -> None:
        while not ended.wait(REVIVE_EVERY_S):
            try:
                self._tend()
            except EngineUnavailable as error:
                log.warning("%s", error)  # and the next `finish` meets it again
                return

    def _tend(self) -> None:
        """Revive a dead engine; once the run is stopping, cut short whatever waits for an engine or a sandbox."""
        try:
            if not self.stopping():
                self.engine.revive()
                self.renew_weights()
                return
        except RunStopped:
            pass
        self.engine.close()
        self.backend.close()

    def _new_group(
        self, task: Task, step: int, purpose: Purpose, group_size: int, repetition: int
    ) -> list[Rollout]:
        prompt_ids = self.chat.encode_prompt(self.prompt.messages(task))
        group = uuid4()
        return [
            Rollout(
                id=uuid4(),
                group=group,
                index=index,
                task_id=task.task_id,
                step=step,
                purpose=purpose,
                policy_version=0,
                prompt_ids=prompt_ids,
                repetition=repetition,
            )
            for index in range(group_size)
        ]

    def _run(self, task: Task, rollout: Rollout, collection: Collection, index: int) -> None:
        if not self._given_up():
            self._attempt(task, rollout)
        if collection.count_ended(index) and not self._given_up():
            collection.scored[index] = self._score(collection.groups[index])

    def _attempt(self, task: Task, rollout: Rollout) -> None:
        rollout.policy_version = self.engine.policy_version
        prompt = self.chat.render_prompt(self.prompt.messages(task)) if rollout.index == 0 else ""
        self.events.write(rollout_started(rollout, prompt))
        labels = SandboxLabels.held_here(
            run=str(self.run),
            rollout=str(rollout.id),
            for_s=self.config.rollout.timeout_s + LEASE_MARGIN_S,
        )
        environment = Environment(task, self.backend, labels=labels, limits=self._limits)
        try:
            self._agent.run(rollout, environment, _seed(self.config.seed, rollout))
        except RunStopped:
            rollout.reason = "the run was stopped"
        finally:
            environment.close()
        rollout.flags |= environment.flags
        if rollout.outcome is Outcome.TASK and not self._given_up():
            self._grade(task, rollout, labels)
        elif rollout.outcome is Outcome.TASK:
            rollout.outcome, rollout.termination_reason = Outcome.INFRA, "infra"
            rollout.reason = "the run was stopped before the patch was graded"
        self._emit_finished(rollout)

    def _grade(self, task: Task, rollout: Rollout, labels: SandboxLabels) -> None:
        grade = self._grades.grade(
            task, rollout.patch, self.backend, labels=labels, limits=self._limits
        )
        rollout.outcome, rollout.reward = grade.outcome, grade.reward
        rollout.flags |= grade.flags
        rollout.tests, rollout.test_log = grade.tests, grade.log
        rollout.grade_s, rollout.reason = grade.seconds, grade.reason
        if grade.outcome is Outcome.INFRA:
            rollout.termination_reason = "infra"

    def _score(self, rollouts: list[Rollout]) -> ScoredGroup:
        group = score_group(rollouts, self.config.algorithm)
        self.events.write(
            GroupScored(
                group=group.id,
                task=rollouts[0].task_id,
                step=rollouts[0].step,
                rollouts=[r.id for r in rollouts],
                advantages=group.advantages,
                filtered=group.filtered,
                trained=group.trained and rollouts[0].purpose == "train",
            )
        )
        return group

    def _on_turn(self, rollout: Rollout, turn: Turn, policy_version: int) -> None:
        self.events.write(TurnEnded(rollout=rollout.id, policy_version=policy_version, turn=turn))

    def _emit_finished(self, rollout: Rollout) -> None:
        self.events.write(
            RolloutFinished(
                rollout=rollout.id,
                group=rollout.group,
                task=rollout.task_id,
                step=rollout.step,
                purpose=rollout.purpose,
                outcome=rollout.outcome.value,
                termination_reason=rollout.termination_reason,
                flags=sorted(rollout.flags),
                reward=rollout.reward,
                num_turns=len(rollout.turns),
                num_prompt_tokens=len(rollout.prompt_ids),
                num_sampled_tokens=rollout.num_sampled_tokens,
                num_response_tokens=len(rollout.response_ids),
                tests=rollout.tests,
                patch=rollout.patch[:MAX_EVENT_PATCH_BYTES].decode(errors="backslashreplace"),
                files=_save_files(rollout, self.run_dir),
                seconds=round(rollout.seconds, 3),
                grade_s=round(rollout.grade_s, 3),
                reason=rollout.reason,
            )
        )


def rollout_started(rollout: Rollout, prompt: str) -> RolloutStarted:
    """The event; `prompt` as the model reads it, in the first of a group."""
    return RolloutStarted(
        rollout=rollout.id,
        group=rollout.group,
        index=rollout.index,
        task=rollout.task_id,
        step=rollout.step,
        purpose=rollout.purpose,
        policy_version=rollout.policy_version,
        prompt=prompt,
    )


def limits_of(sandbox: SandboxConfig) -> Limits:
    """What one sandbox may use, as the configuration says it."""
    return Limits(
        memory_mib=sandbox.memory_mib,
        pids=sandbox.pids,
        cpus=sandbox.cpus,
        disk_mib=sandbox.disk_mib,
        command_timeout_s=sandbox.command_timeout_s,
        grading_timeout_s=sandbox.grading_timeout_s,
        max_observation_chars=sandbox.max_observation_chars,
    )


def _save_files(rollout: Rollout, run_dir: Path) -> dict[str, str]:
    """Write tokens, test log and a large patch beside the events; kind -> path relative to `run_dir`."""
    stem = f"rollouts/step_{rollout.step:05d}/{rollout.id}"
    (run_dir / stem).parent.mkdir(parents=True, exist_ok=True)
    files = {"tokens": f"{stem}.npz"}
    np.savez(
        run_dir / files["tokens"],
        prompt_ids=np.array(rollout.prompt_ids, np.int32),
        response_ids=np.array(rollout.response_ids, np.int32),
        loss_mask=np.array(rollout.loss_mask, np.int8),
        logprobs=np.array(rollout.logprobs, np.float32),
        policy_versions=np.array(rollout.policy_versions, np.int32),
    )
    if rollout.test_log:
        files["test_log"] = f"{stem}.log"
        (run_dir / files["test_log"]).write_bytes(rollout.test_log)
    if len(rollout.patch) > MAX_EVENT_PATCH_BYTES or not _is_text(rollout.patch):
        files["patch"] = f"{stem}.patch"
        (run_dir / files["patch"]).write_bytes(rollout.patch)
    return files


def _is_text(patch: bytes) -> bool:
    try:
        patch.decode()
    except UnicodeDecodeError:
        return False
    return True


def _seed(run_seed: int, rollout: Rollout) -> int:
    """A seed of 63 bits that depends on where the rollout stands in the run, and on nothing else."""
    text = f"{run_seed}/{rollout.purpose}/{rollout.step}/{rollout.task_id}/{rollout.index}"
    text += f"/{rollout.repetition}" if rollout.repetition else ""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
