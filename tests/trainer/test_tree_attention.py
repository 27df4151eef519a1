"""The two ways through tree attention give one result, forward and backward."""

import pytest
import torch

from trainer import attention
from trainer.batch import Tree

TREES = (
    Tree(prompt_length=5, response_lengths=(3, 1, 4)),
    Tree(prompt_length=2, response_lengths=(2,)),
)
LENGTH = 17


def test_a_response_sees_its_prompt_and_itself_but_no_sibling() -> None:
    mask = attention.tree_mask((Tree(prompt_length=2, response_lengths=(1, 2)),))
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]


def test_one_call_with_a_mask_equals_a_call_for_each_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(1, heads, LENGTH, 8, dtype=torch.float64, generator=generator).requires_grad_()
        for heads in (6, 2, 2)
    ]
    weights = torch.randn(1, LENGTH, 6, 8, dtype=torch.float64, generator=generator)

    def run() -> list[torch.Tensor]:
        module = torch.nn.Identity()
        output, _ = attention.tree_attention(module, *inputs, None, scaling=0.3, trees=TREES)
        return [output, *torch.autograd.grad((output * weights).sum(), inputs)]

    masked = run()
    monkeypatch.setattr(attention, "LONGEST_MASKED", 0)
    for one, other in zip(masked, run(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
