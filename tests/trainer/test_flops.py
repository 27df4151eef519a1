"""FLOPs by formula against torch's own counter on a real model, and where the ceiling of MFU comes from."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.trainer.attempts import MIXED, make_config, make_groups
from tests.trainer.gradients import alike_groups
from tests.trainer.random_models import FAMILIES, VOCABULARY, make_model, make_policy
from trainer.config import LoraConfig
from trainer.grpo.batch import pack
from trainer.model.ceiling import TERA, find_ceiling, gpu_ceiling, measure_matmul
from trainer.model.flops import forward_flops, rows_flops_spared, rows_forward_flops
from trainer.model.footprint import shape_of


@pytest.mark.parametrize("family", FAMILIES)
def test_the_formula_counts_what_torch_counts(family: str) -> None:
    """Stock attention computes every pair and projects every token, so the formula is asked for the same."""
    model = make_model(family, "eager")
    tokens = 24
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros((1, tokens), dtype=torch.long), use_cache=False)
    ours = forward_flops(
        shape_of(model.config.to_dict()),
        tokens=tokens,
        attended_pairs=tokens**2,
        loss_tokens=tokens,
    )
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_a_shared_prefix_counts_once() -> None:
    shape = shape_of(make_model("llama", "eager").config.to_dict())
    together, alone = (
        rows_forward_flops(shape, pack(make_groups(MIXED, config, vocabulary=VOCABULARY), config))
        for config in (
            make_config(),
            make_config(optimizer={"share_prefix": False}),
        )
    )
    assert together < alone


def test_a_token_sees_its_ancestors_and_itself() -> None:
    """A prompt of 5 with responses up to their last loss token; pairs counted one by one."""
    config = make_config()
    (row,) = pack(
        make_groups([[("AA", 1.0, "finished"), ("AAA", 0.0, "finished")]], config), config
    )
    pairs = (1 + 2 + 3 + 4 + 5) + (6 + 7) + (6 + 7 + 8)
    shape = shape_of(make_model("llama", "eager").config.to_dict())
    assert rows_forward_flops(shape, [row]) == forward_flops(
        shape, tokens=10, attended_pairs=pairs, loss_tokens=5
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_what_lora_spares_is_what_torch_counts(family: str) -> None:
    """Of one row through the layers, forward and backward, with all weights trained and with an adapter alone."""
    lora = LoraConfig(rank=3)
    (row,) = pack(alike_groups(make_config()), make_config())
    shape = shape_of(make_model(family, "eager").config.to_dict())
    num_tokens = len(row.input_ids)
    counted = []
    for policy in (make_policy(family), make_policy(family, lora=lora)):
        with FlopCounterMode(display=False) as counter:
            policy.scores(row).logprobs.sum().backward()
        counted.append(counter.get_total_flops())
    # the counter sees merging, forward and backward of two layers; the input of the first is frozen, so that its queries, keys
    # and values carry no gradient back
    sizes = [i * o for i, o in shape.projections.values()]
    merging = 2 * lora.rank * (4 * sum(sizes) - sum(sizes[:3]))
    not_carried = 2 * num_tokens * sum(sizes[:3])
    spared = counted[0] - counted[1] + merging - not_carried
    assert rows_flops_spared(shape, [row], lora) == pytest.approx(spared, rel=1e-9)
    assert rows_flops_spared(shape, [row], LoraConfig()) == 0


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA H20", 148),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165.2),
    ],
)
def test_a_known_gpu_has_its_public_figure(name: str, tflops: float) -> None:
    assert gpu_ceiling(name, torch.bfloat16).flops_per_s == tflops * TERA


@pytest.mark.parametrize(
    ("name", "dtype"), [("Imaginary 9000", torch.bfloat16), ("NVIDIA L4", torch.float32)]
)
def test_an_unknown_figure_is_no_mfu_and_says_so(name: str, dtype: torch.dtype) -> None:
    ceiling = gpu_ceiling(name, dtype)
    assert ceiling.flops_per_s is None
    assert ceiling.sentence.startswith("no MFU")
    assert "hardware.peak_tflops" in ceiling.sentence


def test_a_configured_figure_is_taken_as_it_is() -> None:
    ceiling = find_ceiling(make_config(hardware={"peak_tflops": 2.5}))
    assert ceiling.flops_per_s == 2.5e12


def test_a_cpu_is_measured() -> None:
    assert measure_matmul(torch.float32, size=64) > 1e6
