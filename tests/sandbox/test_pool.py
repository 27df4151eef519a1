"""The pool in front of a backend: how many at once, whose lease is renewed, what its end closes."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sandbox.base import Backend, SandboxSpec
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.errors import SandboxGone, SandboxUnavailable
from sandbox.pool import STARTS_PER_CORE, Pool


class Counted:
    """A real backend that also counts how many of its starts run at once."""

    def __init__(self, inner: Backend) -> None:
        self.name, self.cores, self._inner = inner.name, inner.cores, inner
        self._lock = threading.Lock()
        self.now = self.most = 0

    def create(self, spec: SandboxSpec) -> Any:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            return self._inner.create(spec)
        finally:
            with self._lock:
                self.now -= 1

    def reap(self, *, run: str | None = None) -> Any:
        return self._inner.reap(run=run)


def in_threads(count: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_no_more_than_so_many_start_at_once(backend: Backend, spec: SandboxSpec) -> None:
    counted = Counted(backend)
    pool = Pool(counted, max_operations=2)
    in_threads(6, lambda: pool.create(spec).close())
    assert counted.most == 2
    assert pool.leased == 0
    pool.close()


def test_starts_are_measured_by_the_backends_own_cores(
    bubblewrap: BubblewrapBackend, spec: SandboxSpec
) -> None:
    counted = Counted(bubblewrap)
    counted.cores = 1
    pool = Pool(counted, max_operations=16)
    in_threads(6, lambda: pool.create(spec).close())
    assert counted.most <= STARTS_PER_CORE
    pool.close()


def test_a_held_sandbox_outlives_its_first_lease(backend: Backend, spec: SandboxSpec) -> None:
    pool = Pool(backend, lease_s=1.5, renew_every_s=0.2)
    held = pool.create(replace(spec, labels=replace(spec.labels, expires=time.time())))
    time.sleep(2.5)
    assert held.id not in pool.reap().removed
    assert held.exec(["true"], timeout_s=20).ok
    pool.close()


@pytest.mark.parametrize("first_lease_s", [-1, 1, 600])
def test_a_sandbox_is_held_for_the_pools_lease_or_its_own_from_the_start(
    bubblewrap: BubblewrapBackend, spec: SandboxSpec, first_lease_s: float
) -> None:
    pool = Pool(bubblewrap, lease_s=60)
    expires = time.time() + first_lease_s
    held = pool.create(replace(spec, labels=replace(spec.labels, expires=expires)))
    (recorded,) = (row for row in pool.recorded() if row.id == held.id)
    assert recorded.expires == pytest.approx(time.time() + max(60, first_lease_s), abs=5)
    pool.close()


def test_a_closed_pool_has_closed_its_sandboxes_and_gives_out_no_more(
    backend: Backend, spec: SandboxSpec
) -> None:
    pool = Pool(backend)
    held = pool.create(spec)
    pool.close()
    with pytest.raises(SandboxGone):
        held.exec(["true"], timeout_s=5)
    with pytest.raises(SandboxUnavailable, match="closed"):
        pool.create(spec)
