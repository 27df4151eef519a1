"""Scored groups -> rows of tokens for the policy: who shares which tokens, which carry loss, with what weight.

A row is one forward pass without any padding, over a trie of its rollouts (`trainer.grpo.trie`): with `share_prefix` a token
that several of them begin with, be it of an instruction that all tasks have, a group's prompt or turns that went alike, stands
there once, with the same gradients. A token sees what it continues and never a sibling (`trainer.model.attention`).
Rollouts without gradient (filtered, INFRA, advantage 0) are left out, and so are the tokens after a rollout's last loss
token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.config import TrainConfig
from trainer.grpo.cut import cut
from trainer.grpo.loss import token_weights
from trainer.grpo.rollout import Rollout, ScoredGroup
from trainer.grpo.trie import Branch, build_trie, shared_with_previous


@dataclass(frozen=True, kw_only=True)
class Row:
    """One forward pass of S tokens, and T loss tokens in the order of their rollouts; rollouts may share a loss token."""

    input_ids: Tensor
    """[S] int64."""
    position_ids: Tensor
    """[S] int64: of a token in its rollout, so it also counts the tokens that this one sees besides itself."""
    branches: tuple[Branch, ...]
    """Their lengths add up to S."""
    predictors: Tensor
    """[T] int64: the row position whose output predicts each loss token."""
    targets: Tensor
    """[T] int64 token ids."""
    advantages: Tensor
    """[T] float64."""
    weights: Tensor
    """[T] float64, `trainer.grpo.loss.token_weights`."""
    sampled_logprobs: Tensor
    """[T] float64, nats."""

    @property
    def num_pairs(self) -> int:
        """Pairs of a token and one that it sees, itself included."""
        return int(self.position_ids.sum()) + len(self.position_ids)

    def distinct_loss_tokens(self) -> tuple[Tensor, Tensor]:
        """Predictors and targets [2, U] without repetition, and which of them each loss token is [T]."""
        pairs = torch.stack([self.predictors, self.targets])
        distinct, members = pairs.unique(dim=1, return_inverse=True)
        return distinct, members


@dataclass(frozen=True, kw_only=True)
class _Sample:
    rollout: Rollout
    advantage: float
    weight: float
    tokens: Tensor
    """Prompt and response up to the last loss token."""
    loss_tokens: Tensor
    """Their positions in `tokens`."""


def pack(groups: Sequence[ScoredGroup], config: TrainConfig) -> list[Row]:
    """Rows of at most `optimizer.micro_batch_tokens` distinct tokens (one rollout at least, however long)."""
    samples = _samples(groups, config)
    order = list(range(len(samples)))
    if config.optimizer.share_prefix:
        order.sort(key=lambda i: samples[i].tokens.tolist())
        shared = shared_with_previous([samples[i].tokens for i in order])
    else:
        shared = [0] * len(order)
    lengths = [len(samples[i].tokens) for i in order]
    rows = []
    for first, last in cut(lengths, shared, config.optimizer.micro_batch_tokens):
        members = order[first:last]
        trie = build_trie([samples[i].tokens for i in members], [0, *shared[first + 1 : last]])
        places = dict(zip(members, trie.places, strict=True))
        rows.append(_row([(samples[i], places[i]) for i in sorted(members)], trie.branches))
    return rows


def _samples(groups: Sequence[ScoredGroup], config: TrainConfig) -> list[_Sample]:
    """The rollouts that carry a gradient, in the order of their groups."""
    kept = [
        (rollout, advantage)
        for group in groups
        for rollout, advantage, filtered in zip(
            group.rollouts, group.advantages, group.filtered, strict=True
        )
        if not filtered and rollout.num_sampled_tokens
    ]
    weights = token_weights(
        [rollout.num_sampled_tokens for rollout, _ in kept],
        sum(r.reward is not None for group in groups for r in group.rollouts),
        loss_normalizer=config.algorithm.loss_normalizer,
        max_response_tokens=config.rollout.max_response_tokens,
    )
    needs_all = config.algorithm.kl_coef > 0 or config.algorithm.entropy_coef > 0
    return [
        _sample(rollout, advantage, weight)
        for (rollout, advantage), weight in zip(kept, weights, strict=True)
        if advantage != 0 or needs_all
    ]


def _sample(rollout: Rollout, advantage: float, weight: float) -> _Sample:
    mask = torch.tensor([0] * len(rollout.prompt_ids) + rollout.loss_mask)
    loss_tokens = mask.nonzero()[:, 0]
    tokens = torch.tensor(rollout.prompt_ids + rollout.response_ids)[: int(loss_tokens[-1]) + 1]
    return _Sample(
        rollout=rollout,
        advantage=advantage,
        weight=weight,
        tokens=tokens,
        loss_tokens=loss_tokens,
    )


def _row(members: Sequence[tuple[_Sample, Tensor]], branches: tuple[Branch, ...]) -> Row:
    """`members`: each sample with the row positions of its tokens."""
    num_tokens = sum(branch.length for branch in branches)
    ids = torch.empty(num_tokens, dtype=torch.int64)
    positions = torch.empty(num_tokens, dtype=torch.int64)
    for sample, places in members:
        ids[places] = sample.tokens
        positions[places] = torch.arange(len(places))
    samples = [sample for sample, _ in members]
    counts = torch.tensor([len(sample.loss_tokens) for sample in samples])
    return Row(
        input_ids=ids,
        position_ids=positions,
        branches=branches,
        predictors=torch.cat([places[s.loss_tokens - 1] for s, places in members]),
        targets=torch.cat([s.tokens[s.loss_tokens] for s in samples]),
        advantages=_of_each(counts, [s.advantage for s in samples]),
        weights=_of_each(counts, [s.weight for s in samples]),
        sampled_logprobs=torch.tensor(
            [
                p
                for s in samples
                for p, m in zip(s.rollout.logprobs, s.rollout.loss_mask, strict=True)
                if m
            ],
            dtype=torch.float64,
        ),
    )


def _of_each(counts: Tensor, values: list[float]) -> Tensor:
    """[sum of counts] float64: each value as often as its count."""
    return torch.tensor(values, dtype=torch.float64).repeat_interleave(counts)
