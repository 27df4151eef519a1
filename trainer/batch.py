"""Scored groups -> rows of tokens for the policy: who shares which prompt, which tokens carry loss, with what weight.

A row is one forward pass without any padding. It holds trees: a prompt, then the responses that continue it, one after
the other. A response attends to its prompt and to itself, never to a sibling (`trainer.attention`), so with
`share_prefix` a group's prompt costs one pass instead of G, with the same gradients. Rollouts without gradient
(filtered, INFRA, advantage 0) are left out, and so are the tokens after a rollout's last loss token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.config import TrainConfig
from trainer.loss import token_weights
from trainer.rollout import Rollout, ScoredGroup


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Tokens of one prompt and of each response that continues it; in the row they stand in this order."""

    prompt_length: int
    response_lengths: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One forward pass of S tokens, T of which carry loss."""

    input_ids: Tensor
    """[S] int64."""
    position_ids: Tensor
    """[S] int64: a response goes on where its prompt ended."""
    trees: tuple[Tree, ...]
    predictors: Tensor
    """[T] int64: the row position whose output predicts each loss token."""
    targets: Tensor
    """[T] int64 token ids."""
    advantages: Tensor
    """[T] float64."""
    weights: Tensor
    """[T] float64, `trainer.loss.token_weights`."""
    sampled_logprobs: Tensor
    """[T] float64, nats."""


@dataclass(frozen=True, kw_only=True)
class _Sample:
    rollout: Rollout
    advantage: float
    weight: float
    length: int
    """Response tokens up to the last loss token."""


def pack(groups: Sequence[ScoredGroup], config: TrainConfig) -> list[Row]:
    """Rows of at most `optimizer.micro_batch_tokens` unique tokens (one response at least, however long)."""
    keep = [
        (
            group,
            [
                i
                for i, f in enumerate(group.filtered)
                if not f and group.rollouts[i].num_sampled_tokens
            ],
        )
        for group in groups
    ]
    counted = sum(r.reward is not None for group in groups for r in group.rollouts)
    weights = iter(
        token_weights(
            [group.rollouts[i].num_sampled_tokens for group, kept in keep for i in kept],
            counted,
            loss_normalizer=config.algorithm.loss_normalizer,
            max_response_tokens=config.rollout.max_response_tokens,
        )
    )
    needs_all = config.algorithm.kl_coef > 0 or config.algorithm.entropy_coef > 0
    rows: list[Row] = []
    for group, kept in keep:
        samples = [_sample(group.rollouts[i], group.advantages[i], next(weights)) for i in kept]
        live = [s for s in samples if s.advantage != 0 or needs_all]
        rows += [
            _row(part)
            for part in _split(
                live, config.optimizer.micro_batch_tokens, config.optimizer.share_prefix
            )
        ]
    return rows


def _sample(rollout: Rollout, advantage: float, weight: float) -> _Sample:
    length = len(rollout.loss_mask) - rollout.loss_mask[::-1].index(1)
    return _Sample(rollout=rollout, advantage=advantage, weight=weight, length=length)


def _split(samples: list[_Sample], budget: int, share_prefix: bool) -> Iterator[list[_Sample]]:
    """Runs of one group's samples whose prompt and responses fit the budget; singles when nothing is shared."""
    part: list[_Sample] = []
    used = 0
    for sample in samples:
        fits = share_prefix and used + sample.length <= budget
        if part and not fits:
            yield part
            part = []
        if not part:
            used = len(sample.rollout.prompt_ids)
        part.append(sample)
        used += sample.length
    if part:
        yield part


def _row(samples: list[_Sample]) -> Row:
    prompt_ids = samples[0].rollout.prompt_ids
    ids, positions = list(prompt_ids), list(range(len(prompt_ids)))
    predictors: list[int] = []
    targets, advantages, weights, logprobs = [], [], [], []
    for s in samples:
        start = len(ids)
        ids += s.rollout.response_ids[: s.length]
        positions += range(len(prompt_ids), len(prompt_ids) + s.length)
        loss_tokens = [j for j in range(s.length) if s.rollout.loss_mask[j]]
        predictors += [start + j - 1 if j else len(prompt_ids) - 1 for j in loss_tokens]
        targets += [s.rollout.response_ids[j] for j in loss_tokens]
        logprobs += [s.rollout.logprobs[j] for j in loss_tokens]
        advantages += [s.advantage] * len(loss_tokens)
        weights += [s.weight] * len(loss_tokens)
    return Row(
        input_ids=torch.tensor(ids),
        position_ids=torch.tensor(positions),
        trees=(
            Tree(prompt_length=len(prompt_ids), response_lengths=tuple(s.length for s in samples)),
        ),
        predictors=torch.tensor(predictors),
        targets=torch.tensor(targets),
        advantages=torch.tensor(advantages, dtype=torch.float64),
        weights=torch.tensor(weights, dtype=torch.float64),
        sampled_logprobs=torch.tensor(logprobs, dtype=torch.float64),
    )
