"""Our RMSNorm beside transformers': same numbers, same gradients, same names."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from tests.trainer.random_models import FAMILIES, make_model
from trainer.model.norm import RmsNorm, swap_norms

SHAPE = (1, 7, 12)


def through(norm: torch.nn.Module, dtype: torch.dtype) -> list[torch.Tensor]:
    """Output, and the gradients of input and weight, of numbers that are the same for both."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SHAPE, generator=generator).to(dtype).requires_grad_()
    pull = torch.randn(SHAPE, generator=generator).to(dtype)
    output = norm(x)
    return [output, *torch.autograd.grad((output * pull).sum(), (x, norm.weight))]


def stock() -> LlamaRMSNorm:
    norm = LlamaRMSNorm(SHAPE[-1], eps=1e-3)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1, 2, SHAPE[-1]))
    return norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_and_gradients_are_those_of_transformers(dtype: torch.dtype) -> None:
    theirs = stock().to(dtype)
    ours = RmsNorm(theirs.weight, theirs.variance_epsilon)
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    for one, other in zip(through(ours, dtype), through(theirs, dtype), strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_under_autocast_the_result_is_what_a_projection_would_make_of_it() -> None:
    theirs = stock()
    ours = RmsNorm(theirs.weight, theirs.variance_epsilon)
    x = torch.randn(SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(x), theirs(x).bfloat16())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_norm_is_swapped_and_parameters_keep_their_names(family: str) -> None:
    model = make_model(family, "sdpa")
    before = {name: p.data_ptr() for name, p in model.named_parameters()}
    swap_norms(model)
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == before
    kinds = {type(m).__name__ for m in model.modules() if "norm" in type(m).__name__.lower()}
    assert kinds == {"RmsNorm"}
