"""What of a change of weights is left in a narrower number type, by hand."""

import pytest
import torch
from torch import nn

from tests.trainer.random_models import make_policy
from trainer.config import LoraConfig
from trainer.model.change import EVERY, WeightChange
from trainer.model.lora import adapt

HALF = 2.0**-8
"""Half the distance between bfloat16's numbers from 1 to 2: rounding takes less away."""


def ones() -> nn.Module:
    model = nn.Linear(EVERY, EVERY * 8, bias=False)
    nn.init.ones_(model.weight)
    return model


def kept_after(change: float, dtype: torch.dtype) -> float | None:
    model = ones()
    watched = WeightChange(model)
    with torch.no_grad():
        model.weight.add_(change)
    kept, whole = watched.kept(dtype)
    return kept / whole if whole else None


def test_a_change_below_half_the_distance_is_lost_in_bfloat16_and_whole_in_float32() -> None:
    assert kept_after(0.9 * HALF, torch.bfloat16) == 0.0
    assert kept_after(0.9 * HALF, torch.float32) == 1.0


def test_what_rounding_adds_counts_too() -> None:
    assert kept_after(1.25 * HALF, torch.bfloat16) == pytest.approx(2 / 1.25)


def test_weights_that_changed_otherwise_count_by_how_far() -> None:
    """Of eight sampled weights four move by the whole distance, four by an eighth of it, which is lost."""
    model = ones()
    watched = WeightChange(model)
    steps = torch.tensor([2.0, 0.25]).repeat(EVERY * 4) * HALF
    with torch.no_grad():
        model.weight.add_(steps[:, None])
    kept, whole = watched.kept(torch.bfloat16)
    assert kept / whole == pytest.approx(2.0**2 / (2.0**2 + 0.25**2), rel=0.01)


def test_nothing_is_said_of_a_model_with_an_adapter() -> None:
    model = make_policy("llama").model
    adapt(model, LoraConfig(rank=2), seed=0)
    assert WeightChange(model).kept(torch.bfloat16) == (0.0, 0.0)


def test_nothing_is_said_before_a_change() -> None:
    assert kept_after(0.0, torch.bfloat16) is None
