"""One rank of a run that computes gradients: the lead writes those of every case into the file that it is given.

    torchrun --nproc-per-node 2 -m tests.trainer.rank_gradients OUT

The policy is sharded as in training, from weights that the lead alone has.
"""

import os
import random
import sys
from typing import NamedTuple

import torch
from torch import Tensor

from tests.trainer.attempts import MIXED, make_groups
from tests.trainer.gradients import TEMPERATURE, run_update, sample_near_the_policy, splitting
from tests.trainer.random_models import FAMILIES, VOCABULARY, make_policy
from trainer.policy import compile_layers, spread
from trainer.world import ALONE, World, join


class Case(NamedTuple):
    family: str
    share_prefix: bool = True
    micro_batch_tokens: int = 4096
    checkpointed: bool = False
    compiled: bool = False
    old_logprobs: str = "sampled"


CASES = [
    *(
        Case(family, share_prefix, budget)
        for family in FAMILIES
        for share_prefix, budget in ((False, 1), (True, 16), (True, 4096))
    ),
    *(Case(family, checkpointed=True) for family in FAMILIES),
    Case("llama", old_logprobs="recomputed"),
    Case("qwen3", compiled=True),
    Case("qwen3", compiled=True, checkpointed=True),
]


def gradients(case: Case, world: World = ALONE) -> dict[str, Tensor]:
    """Of every parameter by its name, whole. Collective."""
    config = splitting(case.share_prefix, case.micro_batch_tokens, old_logprobs=case.old_logprobs)
    groups = make_groups(MIXED, config, vocabulary=VOCABULARY)
    sample_near_the_policy(groups, random.Random(3), case.family)
    policy = make_policy(case.family, temperature=TEMPERATURE, seed=world.rank, world=world)
    if case.checkpointed:
        policy.model.gradient_checkpointing_enable({"use_reentrant": False})
        policy.model.train()
    if case.compiled:
        compile_layers(policy.model)
    return run_update(spread(policy), groups, config)[1]


if __name__ == "__main__":
    torch.set_num_threads(1)
    with join(os.environ) as world:
        found = {case: gradients(case, world) for case in CASES}
        if world.leads:
            torch.save({tuple(case): tensors for case, tensors in found.items()}, sys.argv[1])
