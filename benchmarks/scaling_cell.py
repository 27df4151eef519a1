"""`python -m benchmarks.scaling_cell CELL`: measure one cell of `benchmarks.scaling`, JSON in, JSON out.

A process of its own, so that no cell finds memory that another left. Peaks are what came on top of the model and a small
warm-up step: activations, logits, the batch itself. Linux only.
"""

import json
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.synthetic_rollouts import random_tokens, synthetic_group
from trainer.config import TrainConfig
from trainer.grpo.rollout import ScoredGroup
from trainer.model import attention
from trainer.model.head import score_tokens
from trainer.model.policy import Policy, make_optimizer
from trainer.nodes.malloc import keep_freed_pages
from trainer.recipes import load_recipe
from trainer.training.update import update

BODY: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
RESPONSE_SHARE = 4
"""A response is one part in so many of its context, the prompt the rest."""
STEPS = 2
"""Of which the quicker counts."""
WARMUP_CONTEXT = 64
SEED = 0


@dataclass(frozen=True, kw_only=True)
class UpdateCell:
    """A whole optimizer step of the small body."""

    sweep: str
    context: int
    """Tokens of a rollout, prompt and response."""
    group_size: int = 2
    num_groups: int = 1
    token_budget: int = 4096
    """`optimizer.micro_batch_tokens`."""


@dataclass(frozen=True, kw_only=True)
class HeadCell:
    """Log-probabilities of all tokens at once, forward and backward, with an output layer of this size."""

    sweep: str
    num_tokens: int
    vocabulary: int
    hidden_size: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    seconds: float
    cpu_seconds: float
    """Of all cores; with `OMP_WAIT_POLICY=passive` neighbours on the machine change it less than the seconds."""
    peak_mib: float
    """Over what the process held before."""


class Times(NamedTuple):
    seconds: float
    cpu_seconds: float

    @classmethod
    def now(cls) -> Self:
        return cls(time.perf_counter(), time.process_time())

    def until_now(self) -> "Times":
        return Times(*(b - a for a, b in zip(self, Times.now(), strict=True)))


def main() -> int:
    cell = json.loads(sys.argv[1])
    keep_freed_pages()
    torch.manual_seed(SEED)
    is_head = "vocabulary" in cell
    measured = measure_head(HeadCell(**cell)) if is_head else measure_update(UpdateCell(**cell))
    print(json.dumps(vars(measured)))
    return 0


def measure_update(cell: UpdateCell) -> Measured:
    config = load_recipe("starter-cpu", {"optimizer": {"micro_batch_tokens": cell.token_budget}})
    attention.register()
    model: Any = LlamaForCausalLM._from_config(
        LlamaConfig(**BODY, max_position_embeddings=cell.context),
        attn_implementation=attention.TREE,
    )
    policy = Policy(model, dtype=torch.bfloat16, temperature=1.0)
    optimizer = make_optimizer(model, config.optimizer)
    take_step(
        policy, optimizer, batch_of(UpdateCell(sweep="", context=WARMUP_CONTEXT), config), config
    )
    memory = ExtraMemory()
    batch = batch_of(cell, config)
    times = [take_step(policy, optimizer, batch, config) for _ in range(STEPS)]
    return Measured(**min(times)._asdict(), peak_mib=memory.peak_mib())


def batch_of(cell: UpdateCell, config: TrainConfig) -> list[ScoredGroup]:
    rng = random.Random(SEED)
    response = cell.context // RESPONSE_SHARE
    return [
        synthetic_group(
            random_tokens(cell.context - response, BODY["vocab_size"], rng),
            [response] * cell.group_size,
            vocabulary=BODY["vocab_size"],
            algorithm=config.algorithm,
            rng=rng,
        )
        for _ in range(cell.num_groups)
    ]


def take_step(
    policy: Policy, optimizer: torch.optim.Optimizer, batch: list[ScoredGroup], config: TrainConfig
) -> Times:
    """Raises RuntimeError when no step was taken."""
    began = Times.now()
    result = update(
        policy, optimizer, batch, config, step=1, reference=None, stopping=lambda: False
    )
    if not result.updated:
        raise RuntimeError(f"no step to measure: {result.reason}")
    return began.until_now()


def measure_head(cell: HeadCell) -> Measured:
    weight = torch.randn(cell.vocabulary, cell.hidden_size).mul_(0.02).requires_grad_()
    hidden = torch.randn(cell.num_tokens, cell.hidden_size, requires_grad=True)
    targets = torch.randint(cell.vocabulary, (cell.num_tokens,))
    memory = ExtraMemory()
    began = Times.now()
    scores = score_tokens(hidden, weight, targets, temperature=1.0, dtype=torch.bfloat16)
    scores.logprobs.sum().backward()
    return Measured(**began.until_now()._asdict(), peak_mib=memory.peak_mib())


class ExtraMemory:
    """The process's resident memory at most since this was made, over what it was then."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
        self._before = _resident_mib("VmRSS")

    def peak_mib(self) -> float:
        return _resident_mib("VmHWM") - self._before


def _resident_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kib) / 1024


if __name__ == "__main__":
    sys.exit(main())
