"""Rollouts of an evaluation: each place (task, index) until it has a score, many places at once.

A `Collector` whose rollouts stand alone: a place is tried again in a fresh sandbox while its rollout ends as INFRA, and what
is done is dropped from memory. Which places are left is `trainer.evaluate`'s business.
"""

import logging
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from uuid import UUID, uuid4, uuid5

from sandbox.errors import Outcome
from sandbox.task import Task
from trainer.grpo.rollout import Rollout
from trainer.rollouts.collect import REVIVE_EVERY_S, Collector
from trainer.stop import RunStopped

log = logging.getLogger(__name__)

TELL_EVERY_S = 10.0
RETRY_AFTER_S = 5.0
"""Before a rollout's first repetition; twice that before the second, and so on."""


@dataclass(frozen=True)
class Place:
    """Where a rollout is wanted."""

    task: Task
    index: int


@dataclass(kw_only=True)
class Evaluator(Collector):
    """Places are taken in their order; `rollout.concurrency` are under way at once."""

    evaluation: UUID
    infra_retries: int

    def evaluate(self, places: Iterable[Place]) -> None:
        """Raises RunStopped once every rollout under way has ended, and after giving them up what one of them, or the engine's
        revival, raised.
        """
        with ThreadPoolExecutor(self.config.rollout.concurrency, "rollout") as pool:
            futures = {pool.submit(self._until_scored, place) for place in places}
            try:
                self._await(futures)
            except BaseException:
                self._closed.set()
                pool.shutdown(wait=False, cancel_futures=True)
                self.engine.close()
                self.backend.close()
                raise
        if self.stopping():
            raise RunStopped

    def _await(self, futures: set[Future[None]]) -> None:
        pending, total, told_at = futures, len(futures), time.monotonic()
        while pending:
            done, pending = wait(pending, timeout=REVIVE_EVERY_S, return_when=FIRST_EXCEPTION)
            self._tend()
            for future in done:
                future.result()
            if time.monotonic() - told_at > TELL_EVERY_S:
                log.info("%d of %d rollouts done", total - len(pending), total)
                told_at = time.monotonic()

    def _until_scored(self, place: Place) -> None:
        for repetition in range(1 + self.infra_retries):
            if repetition:
                self._pause(repetition * RETRY_AFTER_S)
            if self._given_up():
                return
            rollout = self._new_rollout(place)
            self._attempt(place.task, rollout)
            if rollout.outcome is not Outcome.INFRA or self._given_up():
                return
            log.warning("%s #%d: %s", place.task.task_id, place.index, rollout.reason)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._given_up() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, REVIVE_EVERY_S))

    def _new_rollout(self, place: Place) -> Rollout:
        return Rollout(
            id=uuid4(),
            group=group_of(self.evaluation, place.task.task_id),
            index=place.index,
            task_id=place.task.task_id,
            step=0,
            purpose="evaluation",
            policy_version=self.engine.policy_version,
            prompt_ids=self._encode(place.task),
        )

    def _encode(self, task: Task) -> list[int]:
        return self.chat.encode_prompt(self.prompt.messages(task))


def group_of(evaluation: UUID, task_id: str) -> UUID:
    """A task's rollouts are one group, whatever process makes them."""
    return uuid5(evaluation, task_id)
