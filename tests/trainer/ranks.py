"""One rank of two that do what a test asks of them, as torchrun starts them; results are files in FOLDER.

    torchrun --nproc-per-node 2 -m tests.trainer.ranks FOLDER

FOLDER holds `model/` and a checkpoint of step 1, saved by one process, and in `lora/` the same of a run with LoRA. The lead
writes `gradients.pt`, those of every case; of each run a checkpoint of step 2, taken together from that of step 1;
`stopped.txt`, whether it heard that the other rank was asked to stop; and `failure.txt`, what it was told when the other rank
failed. Each rank writes `threads_RANK.txt`, the names of its threads after it has left the others.
"""

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tests.trainer.attempts import MIXED, make_config, make_groups
from tests.trainer.gradients import (
    TEMPERATURE,
    alike_groups,
    run_update,
    sample_near_the_policy,
    splitting,
)
from tests.trainer.random_models import FAMILIES, VOCABULARY, make_policy
from trainer.config import LoraConfig, TrainConfig
from trainer.model.policy import compile_layers, spread
from trainer.nodes.world import ALONE, RankFailed, World, join
from trainer.training import checkpoint
from trainer.training.checkpoint import Progress
from trainer.training.follow import follow, leading, load_state
from trainer.training.update import update

LORA = "lora"


class Case(NamedTuple):
    family: str
    share_prefix: bool = True
    micro_batch_tokens: int = 4096
    checkpointed: bool = False
    compiled: bool = False
    old_logprobs: str = "sampled"
    dtype: str = "float32"
    lora_rank: int = 0


CASES = [
    *(
        Case(family, share_prefix, budget)
        for family in FAMILIES
        for share_prefix, budget in ((False, 1), (True, 16), (True, 4096))
    ),
    *(Case(family, checkpointed=True) for family in FAMILIES),
    Case("llama", old_logprobs="recomputed"),
    Case("qwen3", compiled=True),
    Case("llama", dtype="bfloat16"),
    Case("llama", lora_rank=3),
    Case("qwen3", micro_batch_tokens=16, checkpointed=True, lora_rank=3),
]


class NoTokenizer:
    """These models have no tokenizer to save."""

    def save_pretrained(self, folder: Path) -> None:
        (folder / "tokenizer_config.json").write_text("{}")


def gradients(case: Case, world: World = ALONE) -> dict[str, Tensor]:
    """Of every parameter by its name, whole. Collective."""
    config = splitting(case.share_prefix, case.micro_batch_tokens, old_logprobs=case.old_logprobs)
    groups = alike_groups(config)
    sample_near_the_policy(groups, random.Random(3), case.family)
    # another seed on each rank: the weights are to come from the lead
    policy = make_policy(
        case.family,
        temperature=TEMPERATURE,
        seed=world.rank,
        world=world,
        lora=LoraConfig(rank=case.lora_rank) if case.lora_rank else None,
    )
    policy.dtype = getattr(torch, case.dtype)
    if case.checkpointed:
        policy.model.gradient_checkpointing_enable({"use_reentrant": False})
        policy.model.train()
    if case.compiled:
        compile_layers(policy.model)
    return run_update(spread(policy), groups, config)[1]


def configuration(folder: Path) -> TrainConfig:
    """With LoRA in a folder of that name."""
    return make_config(
        model={"dtype": "float32", "path": str(folder / "model")},
        lora={"rank": 3 if folder.name == LORA else 0},
        optimizer={"learning_rate": 1e-2, "weight_decay": 0.1},
    )


def next_step(folder: Path, world: World = ALONE) -> None:
    """The lead: go on from the newest checkpoint in `folder` by one step, and save."""
    config = configuration(folder)
    policy, optimizer, _, progress = load_state(config, folder, world)
    step = progress.step + 1
    groups = make_groups(MIXED, config, vocabulary=VOCABULARY, seed=step)
    result = update(
        policy, optimizer, groups, config, step=step, reference=None, stopping=lambda: False
    )
    assert result.updated
    checkpoint.save(folder, policy, optimizer, Progress(step, step, step), NoTokenizer(), keep=3)


def signal_the_other(world: World, process: int) -> bool:
    """The lead: whether it hears that another rank, which waits for orders, was asked to stop."""
    os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while not world.stop_requested() and time.monotonic() < deadline:
        time.sleep(0.05)
    return world.stop_requested()


def fail_the_other(world: World) -> str:
    """The lead: give an order that cannot be followed, and return what the next collective raises."""
    try:
        with leading(world):
            world.order("dance")
            world.any(False)
    except RankFailed as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with join(os.environ) as world:
        found = {tuple(case): gradients(case, world) for case in CASES}
        processes = world.gather(os.getpid())
        if world.leads:
            torch.save(found, folder / "gradients.pt")
            with leading(world):
                next_step(folder / LORA, world)
            next_step(folder, world)
            (folder / "stopped.txt").write_text(str(signal_the_other(world, processes[1])))
            (folder / "failure.txt").write_text(fail_the_other(world))
        else:
            for run in (folder / LORA, folder):
                follow(configuration(run), run, world)
    names = [thread.name for thread in threading.enumerate()]
    (folder / f"threads_{world.rank}.txt").write_text("\n".join(names))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
