"""The output layer in tiles: the numbers of the plain formula, forward and backward, and never a tensor of all logits."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainer.model import head
from trainer.model.head import score_tokens

TOKENS, WIDTH, VOCABULARY, TEMPERATURE = 11, 6, 29, 0.7


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """11 tokens and 29 words of the vocabulary in 3 x 4 tiles, the last of each smaller."""
    monkeypatch.setattr(head, "TILE_TOKENS", 4)
    monkeypatch.setattr(head, "TILE_VOCABULARY", {"cpu": 8})


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, dtype=torch.float64, generator=generator)
    weight = torch.randn(VOCABULARY, WIDTH, dtype=torch.float64, generator=generator)
    # targets at both ends of tiles, and one that two tokens have
    targets = torch.tensor([0, 7, 8, 15, 16, 23, 24, 28, 28, 3, 19])
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), targets


def plain(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logprobs = (hidden @ weight.T / TEMPERATURE).log_softmax(-1)
    entropy = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs[range(len(targets)), targets], entropy


@pytest.mark.parametrize("entropy_grad", [False, True])
def test_tiles_give_the_numbers_of_the_plain_formula(entropy_grad: bool) -> None:
    hidden, weight, targets = inputs()
    pull = torch.linspace(-2, 3, TOKENS, dtype=torch.float64)
    results = []
    for logprobs, entropy in (
        score_tokens(
            hidden,
            weight,
            targets,
            temperature=TEMPERATURE,
            dtype=torch.float64,
            entropy_grad=entropy_grad,
        ),
        plain(hidden, weight, targets),
    ):
        total = (pull * logprobs).sum()
        if entropy_grad:
            total = total + (pull.flip(0) * entropy).sum()
        gradients = torch.autograd.grad(total, (hidden, weight))
        results.append((logprobs, entropy.detach(), *gradients))
    for tiled, expected in zip(*results, strict=True):
        torch.testing.assert_close(tiled, expected, rtol=1e-12, atol=1e-12)


def test_large_logits_overflow_nowhere() -> None:
    hidden, weight, targets = inputs(torch.float32)
    with torch.no_grad():
        scores = score_tokens(
            1000 * hidden, weight, targets, temperature=TEMPERATURE, dtype=torch.float32
        )
        expected = plain(1000 * hidden, weight, targets)
    torch.testing.assert_close(scores.logprobs, expected[0], rtol=1e-5, atol=1e-3)
    assert torch.isfinite(scores.entropy).all()


def test_a_frozen_output_layer_gets_no_gradient() -> None:
    hidden, weight, targets = inputs()
    scores = score_tokens(
        hidden, weight.detach(), targets, temperature=TEMPERATURE, dtype=torch.float64
    )
    scores.logprobs.sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_no_tensor_holds_all_logits() -> None:
    """Forward and backward make nothing larger than the weight, which is smaller here than tokens x vocabulary."""

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            sizes = [t.numel() for t in tree_leaves(result) if isinstance(t, Tensor)]
            self.elements = max(self.elements, *sizes, 0)
            return result

    hidden, weight, targets = inputs()
    with Largest() as largest:
        scores = score_tokens(hidden, weight, targets, temperature=TEMPERATURE, dtype=torch.float64)
        scores.logprobs.sum().backward()
    assert largest.elements <= VOCABULARY * WIDTH < VOCABULARY * TOKENS
