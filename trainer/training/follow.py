"""What every rank but the lead does: load its shards, then join in what the lead orders until the lead is done.

It collects nothing, writes no events and talks to no engine; that is `trainer.train`, on the lead. Both load by `load_state`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from trainer.config import TrainConfig
from trainer.engines.weights import GatherWeights
from trainer.model.policy import Policy, engine_state, load_policy, make_optimizer
from trainer.nodes.ending import EXIT_RANK_LOST
from trainer.nodes.world import RankFailed, RankLost, Ranks, World, signals_forwarded
from trainer.stop import RunStopped
from trainer.training import checkpoint
from trainer.training.checkpoint import GatherState, Progress, whole_state
from trainer.training.update import TakeStep, take_step

log = logging.getLogger(__name__)


class Done:
    """The lead's last order."""


@contextmanager
def leading(world: World) -> Iterator[None]:
    """Dismiss the followers when the lead ends or is stopped; when it fails, tell them why.

    An error that another rank caused is raised as RankFailed or RankLost.
    """
    try:
        yield
    except RunStopped:
        world.order(Done())
        raise
    except Exception as error:
        cause = world.explain(error)
        world.fail(f"{type(error).__name__}: {error}")
        raise cause from error
    world.order(Done())


class State(NamedTuple):
    policy: Policy
    optimizer: torch.optim.Optimizer
    reference: Policy | None
    """Only with a KL penalty."""
    progress: Progress


def load_state(config: TrainConfig, run_dir: Path, world: World) -> State:
    """New, or from the newest checkpoint. Collective."""
    temperature = config.rollout.temperature
    policy = load_policy(
        config.model, temperature=temperature, world=world, lora=config.lora, seed=config.seed
    )
    optimizer = make_optimizer(policy.model, config.optimizer)
    reference = None
    if config.algorithm.kl_coef:
        reference = load_policy(config.model, temperature=temperature, world=world)
        reference.model.requires_grad_(False)
    newest, *_ = world.gather(checkpoint.list_steps(run_dir)[-1:] if world.leads else [])
    progress = checkpoint.load(run_dir, newest[0], policy, optimizer) if newest else Progress()
    return State(policy, optimizer, reference, progress)


def follow(config: TrainConfig, run_dir: Path, world: World) -> int:
    """Until the lead is done; the exit code. An error of this rank's own is told to the others."""
    assert isinstance(world, Ranks)
    try:
        with signals_forwarded(world):
            _obey(config, run_dir, world)
    except Exception as error:
        cause = world.explain(error)
        if cause is error and not isinstance(error, RankFailed | RankLost):
            world.fail(f"{type(error).__name__}: {error}")
        log.error("rank %d ends: %s", world.rank, cause, exc_info=cause is error)
        return EXIT_RANK_LOST if isinstance(cause, RankLost) else 1
    return 0


def _obey(config: TrainConfig, run_dir: Path, world: World) -> None:
    policy, optimizer, reference, _ = load_state(config, run_dir, world)
    while not isinstance(order := world.receive(), Done):
        match order:
            case TakeStep():
                _join_step(order, policy, optimizer, reference, config)
            case GatherWeights(dtype=dtype):
                engine_state(policy, dtype)
            case GatherState():
                whole_state(policy, optimizer)
            case _:
                raise TypeError(f"{order!r}: not an order that a rank can follow")


def _join_step(
    order: TakeStep,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    reference: Policy | None,
    config: TrainConfig,
) -> None:
    """Whether to stop is for the lead to say, which hears of every rank's signals."""
    try:
        take_step(
            order, policy, optimizer, None, config, reference=reference, stopping=lambda: False
        )
    except RunStopped:
        return
