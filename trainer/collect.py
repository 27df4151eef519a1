"""Tasks -> groups of graded rollouts, with bounded concurrency and an event for all that happens.

A rollout is one thread from prompt to grade, so no rollout waits for another's turn. A group is scored as soon as its last
rollout is graded. Which tasks, and what becomes of the groups, is `trainer.train`'s business.
"""

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np

from sandbox.base import SandboxLabels
from sandbox.environment import Environment, GradeCache, Limits
from sandbox.errors import Outcome
from sandbox.pool import Pool
from sandbox.task import Task
from sandbox.trajectory import Turn
from trainer.agent import Agent
from trainer.chat import Chat, Prompt
from trainer.config import SandboxConfig, TrainConfig
from trainer.events import (
    EventWriter,
    GroupScored,
    Purpose,
    RolloutFinished,
    RolloutStarted,
    TurnEnded,
)
from trainer.generate import Engine
from trainer.rollout import Rollout, ScoredGroup, score_group
from trainer.stop import RunStopped
from trainer.stopwatch import BusyClock

REVIVE_EVERY_S = 0.5
LEASE_MARGIN_S = 120.0
MAX_EVENT_PATCH_BYTES = 64 << 10
"""A larger patch is a file beside the events, and only its beginning is in the event; one that is not UTF-8 is a file too."""


@dataclass(kw_only=True)
class Collector:
    """Runs groups of rollouts. One at a time; its threads end with each call."""

    run: UUID
    run_dir: Path
    config: TrainConfig
    engine: Engine
    chat: Chat
    prompt: Prompt
    backend: Pool
    events: EventWriter
    stopping: Callable[[], bool]

    def __post_init__(self) -> None:
        self.engine_clock = BusyClock()
        self._grades = GradeCache()
        self._limits = limits_of(self.config.sandbox)
        self._agent = Agent(
            engine=self.engine,
            chat=self.chat,
            limits=self.config.rollout,
            stopping=self.stopping,
            on_turn=self._on_turn,
            engine_clock=self.engine_clock,
        )

    def collect(
        self, tasks: Sequence[Task], *, step: int, purpose: Purpose, group_size: int
    ) -> list[ScoredGroup]:
        """One scored group a task, in the order of `tasks`. Raises RunStopped once every rollout has ended."""
        groups = [self._new_group(task, step, purpose, group_size) for task in tasks]
        with ThreadPoolExecutor(self.config.rollout.concurrency, "rollout") as pool:
            futures = {
                pool.submit(self._attempt, task, rollout): index
                for index, (task, group) in enumerate(zip(tasks, groups, strict=True))
                for rollout in group
            }
            waiting = [group_size] * len(groups)
            scored: list[ScoredGroup | None] = [None] * len(groups)
            for index in self._finished(futures):
                waiting[index] -= 1
                if not waiting[index] and not self.stopping():
                    scored[index] = self._score(groups[index])
        if self.stopping():
            raise RunStopped
        return [group for group in scored if group is not None]

    def _finished(self, futures: dict[Future[None], int]) -> Iterator[int]:
        """The group index of each rollout as it ends, whatever ended it."""
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=REVIVE_EVERY_S, return_when=FIRST_COMPLETED)
            self._tend()
            for future in done:
                future.result()
                yield futures[future]

    def _tend(self) -> None:
        """Revive a dead engine; once the run is stopping, cut short whatever waits for an engine or a sandbox."""
        try:
            if not self.stopping():
                self.engine.revive()
                return
        except RunStopped:
            pass
        self.engine.close()
        self.backend.close()

    def _new_group(self, task: Task, step: int, purpose: Purpose, group_size: int) -> list[Rollout]:
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
                policy_version=self.engine.policy_version,
                prompt_ids=prompt_ids,
            )
            for index in range(group_size)
        ]

    def _attempt(self, task: Task, rollout: Rollout) -> None:
        if self.stopping():
            return
        self._emit_started(task, rollout)
        labels = SandboxLabels(
            run=str(self.run),
            rollout=str(rollout.id),
            owner=f"{socket.gethostname()}:{os.getpid()}",
            expires=time.time() + self.config.rollout.timeout_s + LEASE_MARGIN_S,
        )
        environment = Environment(task, self.backend, labels=labels, limits=self._limits)
        try:
            self._agent.run(rollout, environment, _seed(self.config.seed, rollout))
        except RunStopped:
            rollout.reason = "the run was stopped"
        finally:
            environment.close()
        rollout.flags |= environment.flags
        if rollout.outcome is Outcome.TASK and not self.stopping():
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

    def _on_turn(self, rollout: Rollout, turn: Turn) -> None:
        self.events.write(TurnEnded(rollout=rollout.id, turn=turn))

    def _emit_started(self, task: Task, rollout: Rollout) -> None:
        self.events.write(
            RolloutStarted(
                rollout=rollout.id,
                group=rollout.group,
                index=rollout.index,
                task=rollout.task_id,
                step=rollout.step,
                purpose=rollout.purpose,
                policy_version=rollout.policy_version,
                prompt=self.chat.render_prompt(self.prompt.messages(task))
                if rollout.index == 0
                else "",
            )
        )

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
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
