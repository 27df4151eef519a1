"""How fast an update was: seconds by part, tokens a second, FLOP/s and MFU, peak memory."""

import resource
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from trainer.config import TrainConfig
from trainer.grpo.batch import Row
from trainer.metrics.tally import Tally
from trainer.model.ceiling import TERA
from trainer.model.flops import FORWARD_AND_BACKWARD, rows_flops_spared, rows_forward_flops
from trainer.model.footprint import GIB, shape_of


def speed_tally(
    model_config: dict[str, Any],
    rows: Sequence[Row],
    config: TrainConfig,
    seconds: Mapping[str, float],
    peak_flops: float | None,
) -> Tally:
    """Of one rank's update; `seconds` by part, old_logprobs, forward_backward and optimizer.

    Summed over ranks, tokens a second and FLOP/s are a rank's mean, and MFU is that of all of them.
    """
    took = sum(seconds.values())
    passes = FORWARD_AND_BACKWARD
    passes += config.algorithm.old_logprobs == "recomputed"
    passes += config.algorithm.kl_coef > 0
    shape = shape_of(model_config)
    flops = passes * rows_forward_flops(shape, rows) - rows_flops_spared(shape, rows, config.lora)
    tally = Tally()
    for part, spent in seconds.items():
        tally.add(f"time/update/{part}_s", spent, 1.0)
    tally.add("perf/trained_tokens_per_s", sum(len(row.input_ids) for row in rows), took)
    tally.add("perf/tflops", flops / TERA, took)
    if peak_flops:
        tally.add("perf/mfu", flops, peak_flops * took)
    tally.raise_to("memory/trainer_peak_gib_max", _peak_gib())
    return tally


def _peak_gib() -> float:
    """Of the GPU since the last step, or of the process since its start."""
    if not torch.cuda.is_available():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    peak = torch.cuda.max_memory_allocated() / GIB
    torch.cuda.reset_peak_memory_stats()
    return peak
