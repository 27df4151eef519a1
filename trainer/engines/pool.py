"""Several replicas of the engine as one: a rollout stays on the replica where it began, so that its prefix stays cached.

A new rollout begins on the replica with the fewest requests in flight, among those that are well. A dead replica is started
again, with the weights of that moment, while the others go on; only its own rollouts end as INFRA or wait for it.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from trainer.engines.generate import Completion, Engine, EngineUnavailable

REMEMBERED = 100_000
"""Rollouts whose replica is known; far more than are ever at work."""


@dataclass(kw_only=True, eq=False)
class _Replica:
    engine: Engine
    in_flight: int = 0
    begun: int = 0
    """Rollouts that began on it."""
    is_well: bool = True
    reviving: "Future[bool] | None" = None


@dataclass
class EnginePool:
    """An `Engine`."""

    engines: Sequence[Engine]
    policy_version: int = 0
    _homes: "OrderedDict[UUID, _Replica]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._replicas = [_Replica(engine=engine) for engine in self.engines]
        self._threads = ThreadPoolExecutor(len(self.engines), "replica")

    def complete(
        self,
        prompt_ids: list[int],
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
        timeout_s: float,
        rollout: UUID | None = None,
    ) -> Completion:
        replica = self._enter(rollout)
        try:
            return replica.engine.complete(
                prompt_ids,
                max_tokens=max_tokens,
                temperature=temperature,
                seed=seed,
                timeout_s=timeout_s,
                rollout=rollout,
            )
        except EngineUnavailable:
            replica.is_well = False
            raise
        finally:
            with self._lock:
                replica.in_flight -= 1

    def load_weights(self, folder: Path, policy_version: int) -> None:
        """On all replicas at once, after those that are being revived."""
        self.settle()
        loading = [
            self._threads.submit(replica.engine.load_weights, folder, policy_version)
            for replica in self._replicas
        ]
        wait(loading)
        for replica, loaded in zip(self._replicas, loading, strict=True):
            loaded.result()
            replica.is_well = True
        self.policy_version = policy_version

    def revive(self) -> bool:
        """Look after every replica without waiting for any; True when one has come back since the last call."""
        returned = [self._tend(replica) for replica in self._replicas]
        return any(returned)

    def close(self) -> None:
        with ThreadPoolExecutor(len(self.engines), "close") as threads:
            wait([threads.submit(replica.engine.close) for replica in self._replicas])
        self._threads.shutdown(wait=False)

    def _enter(self, rollout: UUID | None) -> _Replica:
        with self._lock:
            replica = self._homes.get(rollout) if rollout else None
            if replica is None:
                replica = min(self._replicas, key=lambda r: (not r.is_well, r.in_flight, r.begun))
                replica.begun += 1
                if rollout:
                    self._homes[rollout] = replica
            if len(self._homes) > REMEMBERED:
                self._homes.popitem(last=False)
            replica.in_flight += 1
            return replica

    def _tend(self, replica: _Replica) -> bool:
        if replica.reviving is None:
            replica.reviving = self._threads.submit(replica.engine.revive)
        if not replica.reviving.done():
            return False
        revived, replica.reviving = replica.reviving, None
        came_back = revived.result()
        replica.is_well = True
        return came_back

    def settle(self) -> None:
        """Wait for replicas that are being revived. Raises EngineUnavailable, RunStopped for one that did not come back."""
        reviving = [replica for replica in self._replicas if replica.reviving]
        wait([replica.reviving for replica in reviving if replica.reviving])
        for replica in reviving:
            self._tend(replica)


def start_all(start: Sequence[Callable[[], Engine]]) -> EnginePool:
    """Start every replica at once. Raises what the first that failed raised, with the others closed."""
    with ThreadPoolExecutor(len(start), "start") as threads:
        starting = [threads.submit(one) for one in start]
    failures = [error for one in starting if (error := one.exception())]
    if failures:
        for one in starting:
            if not one.exception():
                one.result().close()
        raise failures[0]
    return EnginePool([one.result() for one in starting])
