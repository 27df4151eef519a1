"""The trainer's processes ("ranks", as torchrun starts them) and what they tell each other.

Rank 0 leads: it alone collects rollouts, writes events and talks to the engine, and before each collective piece of work it
sends an order (`trainer.training.follow`). The others only follow, so nothing that the lead does in threads of its own can mix
up the order of collectives. Alone, every method is the same call without communication.

Orders travel over a gloo group whose timeout is long, since rollouts take as long as they take; a dead process closes its
connections, which ends the wait at once. Tensors go through the default group (NCCL on GPUs), whose collectives time out.
"""

import ctypes
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

COLLECTIVE_TIMEOUT = timedelta(minutes=15)
"""Longer than the slowest micro-batch of one rank waits for another's."""
ORDER_TIMEOUT = timedelta(days=7)
LOOK_EVERY_S = 0.3
LAST_WORDS_S = 5.0
"""How long a rank that lost its peers waits for the reason before it gives none."""
THREAD_END_S = 5.0
"""How long a rank that leaves waits for its threads: the store answers or refuses by then, but where its machine is silent."""
ABORT_AFTER_S = 60.0
"""Beyond this a rank whose peer failed is stuck in a collective that no error can end."""
PEER_GONE = r"(?i)gloo|nccl|connection (closed|reset)|broken pipe"
"""In the message of a collective that failed because another rank is gone."""
PR_SET_PDEATHSIG = 1  # linux/prctl.h

Value = TypeVar("Value")


class RankLost(RuntimeError):
    """Another rank died without a word: killed, most often for want of memory. The run goes on from its checkpoint."""


class RankFailed(RuntimeError):
    """Another rank failed; the message is its error."""


class World:
    """One process alone: on a GPU if there is one."""

    rank, size = 0, 1

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def order(self, order: object) -> None:
        """Lead: tell the others what comes next."""

    def receive(self) -> Any:
        """Followers: the lead's next order. Raises RankLost, RankFailed."""
        raise RuntimeError("a process alone has no lead to follow")

    def scatter(self, parts: Sequence[Value] | None) -> Value:
        """This rank's part of what the lead gives, one part a rank; followers give None."""
        assert parts is not None
        return parts[0]

    def gather(self, value: Value) -> list[Value]:
        """Every rank's value, by rank, on every rank."""
        return [value]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank: the same answer on all."""
        return flag

    def stop_requested(self) -> bool:
        """Whether another rank was asked to stop, or has failed."""
        return False

    def fail(self, reason: str) -> None:
        """Tell the others why this rank ends. The first reason stays."""

    def explain(self, error: Exception) -> Exception:
        """Behind the error of a collective whose peer is gone: RankFailed or RankLost. Any other error is itself."""
        return error


ALONE = World()


class Ranks(World):
    """One of several processes; made by `join`."""

    def __init__(self, rank: int, size: int, device: torch.device, store: Store) -> None:
        self.rank, self.size, self.device = rank, size, device
        self.mesh: DeviceMesh = init_device_mesh(device.type, (size,))
        self._store = store
        self._orders = dist.new_group(backend="gloo", timeout=ORDER_TIMEOUT)
        self._objects = dist.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT)
        self._looked_at = 0.0
        self._stop = False

    def order(self, order: object) -> None:
        self._together(lambda: dist.broadcast_object_list([order], 0, group=self._orders))

    def receive(self) -> Any:
        box: list[Any] = [None]
        self._together(lambda: dist.broadcast_object_list(box, 0, group=self._orders))
        return box[0]

    def scatter(self, parts: Sequence[Value] | None) -> Value:
        box: list[Any] = [None]
        given = None if parts is None else list(parts)
        self._together(lambda: dist.scatter_object_list(box, given, 0, group=self._objects))
        return box[0]

    def gather(self, value: Value) -> list[Value]:
        box: list[Any] = [None] * self.size
        self._together(lambda: dist.all_gather_object(box, value, group=self._objects))
        return box

    def any(self, flag: bool) -> bool:
        told = torch.tensor(int(flag))
        self._together(lambda: dist.all_reduce(told, dist.ReduceOp.MAX, group=self._objects))
        return bool(told)

    def stop_requested(self) -> bool:
        if not self._stop and time.monotonic() - self._looked_at > LOOK_EVERY_S:
            self._looked_at = time.monotonic()
            self._stop = self._told("stop") or self._told("failed")
        return self._stop

    def ask_to_stop(self) -> None:
        self._store.set("stop", "1")

    def fail(self, reason: str) -> None:
        with suppress(RuntimeError):
            self._store.compare_set(
                "failed", "", f"rank {self.rank} on {socket.gethostname()}: {reason}"
            )

    def failure(self) -> str:
        """The reason of the rank that failed first; empty when none said one."""
        return self._store.get("failed").decode() if self._told("failed") else ""

    def explain(self, error: Exception) -> Exception:
        of_torch = type(error) is RuntimeError or isinstance(error, dist.DistError)
        if not of_torch or not re.search(PEER_GONE, str(error)):
            return error
        deadline = time.monotonic() + LAST_WORDS_S
        while time.monotonic() < deadline:
            if reason := self.failure():
                return RankFailed(reason)
            time.sleep(0.1)
        return RankLost(f"a rank died without a word ({error})")

    def _together(self, collective: Callable[[], object]) -> None:
        try:
            collective()
        except RuntimeError as error:
            raise self.explain(error) from error

    def _told(self, key: str) -> bool:
        with suppress(RuntimeError):
            return self._store.check([key])
        return False


@contextmanager
def join(environ: "os._Environ[str]") -> Iterator[World]:
    """This process's world, from what torchrun tells in `environ`; alone without it.

    A rank ends with the launcher that started it, however that ends.
    """
    size = int(environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    rank, local = int(environ["RANK"]), int(environ["LOCAL_RANK"])
    # a recipe for CPUs may have more ranks than this machine has GPUs, which is 0 without any
    enough = torch.cuda.device_count() >= int(environ.get("LOCAL_WORLD_SIZE", size))
    device = torch.device("cuda", local) if enough else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
    master = TCPStore(
        environ["MASTER_ADDR"],
        int(environ["MASTER_PORT"]),
        is_master=False,
        timeout=COLLECTIVE_TIMEOUT,
    )
    attempt = environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    world = Ranks(rank, size, device, PrefixStore(f"trainer/{attempt}", master))
    ended = threading.Event()
    watch = threading.Thread(
        target=_abort_when_stuck, args=[world, ended], name="ranks", daemon=True
    )
    watch.start()
    try:
        yield world
    finally:
        with suppress(RuntimeError):
            dist.destroy_process_group()
        ended.set()
        _leave_store(watch)


@contextmanager
def signals_forwarded(world: Ranks) -> Iterator[None]:
    """Followers: SIGTERM and SIGINT ask the whole world to stop. Afterwards they have no effect, since the rank is ending.

    Python's handlers run in the main thread, which a collective keeps for as long as it lasts; the byte that the interpreter
    writes for each signal comes at once.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def wait() -> None:
        with os.fdopen(reading, "rb", buffering=0) as numbers:
            while numbers.read(1):
                with suppress(RuntimeError):
                    world.ask_to_stop()

    waiter = threading.Thread(target=wait, name="signals", daemon=True)
    waiter.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        os.close(writing)
        _leave_store(waiter)


def _leave_store(thread: threading.Thread) -> None:
    """Wait for a thread that asks the store: one still in its C++ when the interpreter ends would abort the process."""
    thread.join(THREAD_END_S)


def _abort_when_stuck(world: Ranks, ended: threading.Event) -> None:
    """NCCL does not notice a dead peer: once one has failed, a rank that does not end is ended."""
    while not world.failure():
        if ended.wait(LOOK_EVERY_S):
            return
    if not ended.wait(ABORT_AFTER_S):
        os._exit(1)
