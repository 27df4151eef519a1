"""The rate that a device could at most multiply matrices at, in FLOP/s: what a model's FLOP utilisation (MFU) is a share of.

Three sources, in this order: `hardware.peak_tflops` of the configuration; for a GPU a table of its maker's figures; for a
CPU a measurement here. Where none has an answer there is no MFU rather than a guess.
"""

import time
from typing import NamedTuple

import torch

from trainer.config import TrainConfig
from trainer.model.precision import compute_dtype, name_of

TERA = 1e12
MEASURED_SIZE = 2048
MEASURED_S = 0.4

GPU_TFLOPS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("b200",), 2250.0),
    (("h200",), 989.0),
    (("h100", "nvl"), 835.0),
    (("h100", "pcie"), 756.0),
    (("h100",), 989.0),
    (("h800",), 989.0),
    (("h20",), 148.0),
    (("a100",), 312.0),
    (("a800",), 312.0),
    (("a40",), 149.7),
    (("a30",), 165.0),
    (("l40s",), 362.0),
    (("l4",), 121.0),
    (("rtx 4090",), 165.2),
    (("rtx 3090",), 71.0),
)
"""Dense bfloat16 with float32 sums, from the data sheets; the first entry whose words are all in the device's name counts."""


class Ceiling(NamedTuple):
    flops_per_s: float | None
    """Of one device; None when it is not known."""
    sentence: str
    """For people: where the figure comes from, or why there is none."""


def find_ceiling(config: TrainConfig) -> Ceiling:
    """Of the device that trains. On a CPU without a configured figure it takes half a second of matrix products."""
    configured = config.hardware.peak_tflops
    if configured:
        return Ceiling(
            configured * TERA, f"MFU is a share of {configured:g} TFLOP/s (hardware.peak_tflops)"
        )
    dtype = compute_dtype(config.model)
    if torch.cuda.is_available():
        return gpu_ceiling(torch.cuda.get_device_name(), dtype)
    measured = measure_matmul(dtype)
    return Ceiling(
        measured,
        f"MFU is a share of {measured / TERA:.2f} TFLOP/s, measured here with {name_of(dtype)} "
        f"matrices of {MEASURED_SIZE} x {MEASURED_SIZE} on {torch.get_num_threads()} threads",
    )


def gpu_ceiling(name: str, dtype: torch.dtype) -> Ceiling:
    """The public figure for a GPU of this name."""
    if dtype != torch.bfloat16:
        return Ceiling(
            None,
            f"no MFU: there is no {name_of(dtype)} figure for {name}; set hardware.peak_tflops",
        )
    for words, tflops in GPU_TFLOPS:
        if all(word in name.lower() for word in words):
            return Ceiling(
                tflops * TERA, f"MFU is a share of {tflops:g} TFLOP/s, the figure for {name}"
            )
    return Ceiling(None, f"no MFU: {name} is in no table; set hardware.peak_tflops")


def measure_matmul(dtype: torch.dtype, size: int = MEASURED_SIZE) -> float:
    """FLOP/s of the quickest of several products of two [size, size] matrices on this CPU."""
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
    quickest, ends = float("inf"), time.perf_counter() + MEASURED_S
    while time.perf_counter() < ends or quickest == float("inf"):
        began = time.perf_counter()
        torch.mm(left, right)
        quickest = min(quickest, time.perf_counter() - began)
    return 2.0 * size**3 / quickest
