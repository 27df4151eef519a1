"""`python -m trainer.check RECIPE`: what a user runs first on new hardware, in minutes, before a run of days.

It starts engine and ranks as a run would, without tasks and sandboxes, and has them sample and update three times, with a
hand-over of weights before the last. It prints whether sampler and trainer agree before and after new weights, how long the
hand-over takes, tokens a second, and memory. The rewards are made up and the learning rate is large, so that one step moves
the weights visibly; nothing is kept.

RECIPE is a recipe's name, a TOML file or a run's folder. Exit codes: 0 all is well, 1 something is not, 2 the configuration.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from uuid import uuid4

import torch
from transformers import AutoTokenizer

from sandbox.errors import Outcome
from trainer.config import ConfigError, TrainConfig
from trainer.engines.generate import Engine, start_engine
from trainer.engines.weights import start_sync
from trainer.events import Metric
from trainer.grpo.rollout import Rollout, ScoredGroup, score_group
from trainer.model.precision import compute_dtype
from trainer.nodes.gpus import share_gpus
from trainer.nodes.world import World, join
from trainer.recipes import find_config
from trainer.train import check_supported
from trainer.training.follow import follow, leading, load_state
from trainer.training.update import update

LEARNING_RATE = 1e-3
MAX_KL = 0.01
"""Between sampler and trainer, k3 in nats a token; beyond it runs have come apart (prime-rl's bound)."""
MOVED = 3.0
"""By so much at least must a step part sampler and trainer, as a multiple of their gap after the hand-over."""


@dataclass(kw_only=True)
class Round:
    """One round of sampling and an update, with the gap between the two before it."""

    kl: float
    """Mean k3 in nats a token."""
    gap: float
    """Mean absolute difference of log-probabilities, nats."""
    sampled_per_s: float
    trained_per_s: float
    updated: bool


@dataclass(kw_only=True)
class Report:
    load_s: float
    """Until engine and policy were ready."""
    rounds: list[Round]
    """With the weights of the start; after a step the engine does not know; after the hand-over."""
    sync_s: float
    peak_gib: dict[str, float]
    """By whose it is."""

    @property
    def faults(self) -> list[str]:
        start, stale, synced = self.rounds
        faults = [
            f"sampler and trainer disagree {when}: KL {found.kl:.2g} nats a token, limit {MAX_KL}"
            for when, found in (("at the start", start), ("after the hand-over", synced))
            if not found.kl <= MAX_KL
        ]
        if not stale.gap > MOVED * synced.gap:
            faults.append(
                f"new weights do not show in the engine: gap {stale.gap:.2g} before the hand-over, {synced.gap:.2g} after"
            )
        if not all(found.updated for found in self.rounds):
            faults.append("an update was skipped: loss or gradient norm is not finite")
        return faults


def check(config: TrainConfig, folder: Path, world: World) -> Report:
    """The lead's part; `folder` is for logs. Raises what a run would raise."""
    check_supported(config)
    config = _moving(config)
    began = time.monotonic()
    with ThreadPoolExecutor(1, "load") as loader:
        loading = loader.submit(load_state, config, folder, world)
        if share_gpus(config):
            loading.result()
        engine = start_engine(config, folder)
    with closing(engine):
        policy, optimizer, reference, _ = loading.result()
        dtype = compute_dtype(config.model)
        with closing(start_sync(config.engine.weight_sync, policy, engine, dtype)) as sync:
            load_s = time.monotonic() - began
            rounds: list[Round] = []
            for step in (1, 2, 3):
                handing_over = time.monotonic()
                if step == 3:
                    sync.push(1)
                sync_s = time.monotonic() - handing_over
                groups, sample_s = sample(engine, config, seed=step)
                result = update(
                    policy,
                    optimizer,
                    groups,
                    config,
                    step=step,
                    reference=reference,
                    stopping=lambda: False,
                )
                sampled = sum(r.num_sampled_tokens for g in groups for r in g.rollouts)
                rounds.append(_round(result.metrics, sampled / sample_s, result.updated))
            peak_gib = _peak_gib(world)
    return Report(load_s=load_s, rounds=rounds, sync_s=sync_s, peak_gib=peak_gib)


def _moving(config: TrainConfig) -> TrainConfig:
    """The configuration with a learning rate that shows in one step, from the first on."""
    optimizer = config.optimizer.model_copy(
        update={"learning_rate": LEARNING_RATE, "warmup_steps": 0}
    )
    return config.model_copy(update={"optimizer": optimizer})


def sample(engine: Engine, config: TrainConfig, seed: int) -> tuple[list[ScoredGroup], float]:
    """Groups for one step, a turn a rollout and every second one rewarded, and the seconds that sampling took."""
    limits = config.rollout
    num_groups = max(1, min(limits.concurrency // limits.group_size, config.tasks.tasks_per_step))
    tokenizer = AutoTokenizer.from_pretrained(config.model.path)
    text = tokenizer.encode(Path(__file__).read_text(), add_special_tokens=False)
    groups = []
    for number in range(num_groups):
        # programs of different lengths, as prompts are
        length = 1 + (number + 1) * (limits.max_prompt_tokens - 1) // num_groups
        groups.append(list(_group((text * (1 + length // len(text)))[:length], limits.group_size)))
    rollouts = [rollout for group in groups for rollout in group]
    max_tokens = min(limits.max_turn_tokens, limits.max_response_tokens)
    began = time.monotonic()

    def complete(index: int) -> None:
        rollout = rollouts[index]
        completion = engine.complete(
            rollout.prompt_ids,
            max_tokens=max_tokens,
            temperature=limits.temperature,
            seed=(seed << 32) + index,
            timeout_s=limits.timeout_s,
            rollout=rollout.id,
        )
        rollout.append_sampled(completion.token_ids, completion.logprobs, completion.policy_version)

    with ThreadPoolExecutor(limits.concurrency, "rollout") as threads:
        list(threads.map(complete, range(len(rollouts))))
    took = time.monotonic() - began
    return [score_group(group, config.algorithm) for group in groups], took


def _group(prompt_ids: list[int], size: int) -> Iterator[Rollout]:
    group = uuid4()
    for index in range(size):
        yield Rollout(
            id=uuid4(),
            group=group,
            index=index,
            task_id="check",
            step=1,
            purpose="train",
            policy_version=0,
            prompt_ids=prompt_ids,
            termination_reason="finished",
            outcome=Outcome.TASK,
            reward=float(index % 2),
        )


def _round(metrics: dict[str, Metric], sampled_per_s: float, updated: bool) -> Round:
    def rate(name: str) -> float:
        numerator, denominator = metrics[name]
        return numerator / denominator if denominator else float("nan")

    return Round(
        kl=rate("mismatch/kl"),
        gap=rate("mismatch/abs_diff"),
        sampled_per_s=sampled_per_s,
        trained_per_s=rate("perf/trained_tokens_per_s"),
        updated=updated,
    )


def _peak_gib(world: World) -> dict[str, float]:
    """While the engine is still there."""
    if world.device.type != "cuda":
        return {"the lead": getrusage(RUSAGE_SELF).ru_maxrss / 2**20}
    free, total = torch.cuda.mem_get_info(world.device)
    return {
        "the lead": torch.cuda.max_memory_allocated(world.device) / 2**30,
        "all on its GPU, now": (total - free) / 2**30,
    }


def describe(report: Report, config: TrainConfig, world: World) -> str:
    start, stale, synced = report.rounds
    where = "on GPUs" if world.device.type == "cuda" else "on a CPU"
    return "\n".join(
        [
            f"{config.recipe}: {world.size} rank(s) {where}, engine {config.engine.kind} x {config.engine.replicas}",
            f"  ready after              {report.load_s:.1f} s",
            f"  sampler against trainer  KL {start.kl:.2g}, gap {start.gap:.2g} nats a token",
            f"  after a step, old engine KL {stale.kl:.2g}, gap {stale.gap:.2g}",
            f"  after the hand-over      KL {synced.kl:.2g}, gap {synced.gap:.2g}",
            f"  hand-over of weights     {report.sync_s:.2f} s by {config.engine.weight_sync}",
            f"  sampled                  {synced.sampled_per_s:,.0f} tokens/s",
            f"  trained                  {synced.trained_per_s:,.0f} tokens/s, prompts shared",
            *(f"  memory of {who:<14} {gib:.1f} GiB" for who, gib in report.peak_gib.items()),
            *(f"NOT WELL: {fault}" for fault in report.faults),
            *([] if report.faults else ["All is well."]),
        ]
    )


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer.check", description=__doc__)
    parser.add_argument("recipe", help="a recipe's name, a TOML file, or a run's folder")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        config = find_config(arguments.recipe)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if "RANK" not in os.environ and config.hardware.ranks > 1:
        from trainer.nodes.launch import Node, launch

        return launch(config.hardware, ["-m", "trainer.check", *argv], Node())
    with tempfile.TemporaryDirectory() as folder, join(os.environ) as world:
        if not world.leads:
            return follow(config, Path(folder), world)
        try:
            with leading(world):
                report = check(config, Path(folder), world)
        except ConfigError as error:
            print(error, file=sys.stderr)
            return 2
        print(describe(report, config, world))
        return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
