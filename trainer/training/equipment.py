"""What a run works with, loaded and started side by side before its first step and closed after its last."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import torch

from sandbox.deployment import configured_backend
from sandbox.pool import Pool
from sandbox.reap import reap_quietly
from trainer.config import TrainConfig
from trainer.engines.generate import Engine, start_engine
from trainer.engines.weights import WeightSync, start_sync
from trainer.events import EventWriter
from trainer.metrics.alarm_watch import AlarmWatch
from trainer.model.policy import Policy
from trainer.model.precision import compute_dtype
from trainer.nodes.gpus import share_gpus
from trainer.nodes.world import World
from trainer.training.checkpoint import Progress
from trainer.training.follow import load_state


class Equipment(NamedTuple):
    policy: Policy
    optimizer: torch.optim.Optimizer
    reference: Policy | None
    """Only with a KL penalty."""
    progress: Progress
    """Where the newest checkpoint stands, which policy and optimizer came from."""
    engine: Engine
    sync: WeightSync
    backend: Pool
    watch: AlarmWatch


@contextmanager
def equipped(
    config: TrainConfig,
    run_dir: Path,
    run: UUID,
    events: EventWriter,
    stopping: Callable[[], bool],
    world: World,
) -> Iterator[Equipment]:
    """Raises what `load_state` and `start_engine` raise. What an earlier attempt left of sandboxes is reaped first."""
    with ExitStack() as resources:
        watch = AlarmWatch(run_dir, events)
        resources.callback(watch.close)
        loader = resources.enter_context(ThreadPoolExecutor(1, "load"))
        loading = loader.submit(load_state, config, run_dir, world)
        backend = Pool(
            configured_backend(config.sandbox.backend), max_operations=config.sandbox.concurrency
        )
        resources.callback(reap_quietly, backend, str(run))
        resources.callback(backend.close)
        backend.reap(run=str(run))
        if share_gpus(config):
            # what is taken on its GPU while vLLM looks how much is free, it counts as its own
            loading.result()
        engine = start_engine(config, run_dir, stopping)
        resources.callback(engine.close)
        policy, optimizer, reference, progress = loading.result()
        dtype = compute_dtype(config.model)
        sync = start_sync(config.engine.weight_sync, policy, engine, dtype, owner=str(run))
        resources.callback(sync.close)
        yield Equipment(
            policy=policy,
            optimizer=optimizer,
            reference=reference,
            progress=progress,
            engine=engine,
            sync=sync,
            backend=backend,
            watch=watch,
        )
