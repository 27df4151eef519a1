"""The two ways through tree attention give one result, forward and backward, and let no sibling see another."""

import pytest
import torch

from trainer.grpo.trie import Branch
from trainer.model import attention

BRANCHES = (
    Branch(-1, 5),
    Branch(-1, 2),
    Branch(0, 3),
    Branch(0, 1),
    Branch(0, 4),
    Branch(1, 2),
    Branch(3, 2),
)
LENGTH = 19


def attend(
    dtype: torch.dtype, *, branches: tuple[Branch, ...] = BRANCHES, length: int = LENGTH
) -> list[torch.Tensor]:
    """The output and the gradients of query, key and value, for the same numbers in any type."""
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(1, heads, length, 8, dtype=torch.float64, generator=generator)
        .to(dtype)
        .requires_grad_()
        for heads in (6, 2, 2)
    ]
    weights = torch.randn(1, length, 6, 8, dtype=torch.float64, generator=generator).to(dtype)
    module = torch.nn.Identity()
    output, _ = attention.tree_attention(module, *inputs, None, scaling=0.3, branches=branches)
    return [output, *torch.autograd.grad((output * weights).sum(), inputs)]


def test_a_response_sees_its_prompt_and_itself_but_no_sibling() -> None:
    """Value t is the unit vector e_t and all keys are equal, so output t lists, with equal weights, what t sees."""
    branches = (Branch(-1, 2), Branch(0, 1), Branch(0, 2))
    query = key = torch.zeros(1, 1, 5, 5)
    output, _ = attention.tree_attention(
        torch.nn.Identity(), query, key, torch.eye(5)[None, None], None, branches=branches
    )
    assert (output[0, :, 0] > 0).int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]


def test_products_on_a_cpu_equal_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    products = attend(torch.float64)
    monkeypatch.setattr(attention, "LONGEST_ON_CPU", 0)
    for one, other in zip(products, attend(torch.float64), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_in_bfloat16_products_are_as_close_to_the_truth_as_the_fused_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth, products = attend(torch.float64), attend(torch.bfloat16)
    monkeypatch.setattr(attention, "LONGEST_ON_CPU", 0)
    fused = attend(torch.bfloat16)
    for exact, one, other in zip(truth, products, fused, strict=True):
        errors = [float((t.detach() - exact.detach()).norm()) for t in (one, other)]
        assert errors[0] < 1.5 * errors[1]


def test_the_settings_of_matrix_products_are_left_as_they_were() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    attend(torch.bfloat16)
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_autocast_does_not_round_the_scores() -> None:
    plain = attend(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        under = attend(torch.bfloat16)
    for one, other in zip(plain, under, strict=True):
        assert torch.equal(one, other)
