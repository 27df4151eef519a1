"""A trie holds each distinct beginning once, in an order that attention can rely on."""

import random

import pytest
import torch

from tests.trainer.attempts import begin_alike, make_config, make_groups
from trainer.grpo.batch import pack
from trainer.grpo.cut import cut
from trainer.grpo.trie import Branch, build_trie, shared_with_previous
from trainer.model.blocks import MOST_QUERIES, blocks


def lay_out(sequences: list[list[int]]) -> tuple[tuple[Branch, ...], list[list[int]]]:
    tensors = [torch.tensor(s) for s in sorted(sequences)]
    trie = build_trie(tensors, shared_with_previous(tensors))
    return trie.branches, [places.tolist() for places in trie.places]


def test_what_two_sequences_begin_with_stands_once() -> None:
    branches, places = lay_out([[1, 2, 3, 4], [1, 2, 5], [1, 2, 3, 4, 6], [9], [1, 2, 3, 4]])
    # 1 2, 9 | 3 4, 5 | 6
    assert branches == (Branch(-1, 2), Branch(-1, 1), Branch(0, 2), Branch(0, 1), Branch(2, 1))
    assert places == [[0, 1, 3, 4], [0, 1, 3, 4], [0, 1, 3, 4, 6], [0, 1, 5], [2]]


@pytest.mark.parametrize("seed", range(20))
def test_a_trie_is_as_long_as_there_are_beginnings(seed: int) -> None:
    rng = random.Random(seed)
    sequences = [
        [rng.randrange(3) for _ in range(rng.randrange(1, 9))] for _ in range(rng.randrange(1, 30))
    ]
    branches, places = lay_out(sequences)
    row: dict[int, int] = {}
    for sequence, where in zip(sorted(sequences), places, strict=True):
        for token, place in zip(sequence, where, strict=True):
            assert row.setdefault(place, token) == token
    beginnings = {tuple(s[: n + 1]) for s in sequences for n in range(len(s))}
    assert sorted(row) == list(range(len(beginnings)))
    assert sum(branch.length for branch in branches) == len(beginnings)
    parents = [branch.parent for branch in branches]
    assert parents == sorted(parents)
    assert all(parent < i for i, parent in enumerate(parents))


def test_a_turn_that_two_rollouts_sampled_is_computed_once_and_trains_both() -> None:
    config = make_config()
    groups = make_groups([[("AAA O A", 1.0, "finished"), ("AAA O AA", 0.0, "finished")]], config)
    begin_alike(groups, num_prompt=5, num_response=4)
    (row,) = pack(groups, config)
    assert row.branches == (Branch(-1, 5 + 4), Branch(0, 1), Branch(0, 2))
    assert row.predictors.tolist() == [4, 5, 6, 8] + [4, 5, 6, 8, 10]
    assert row.position_ids.tolist() == [*range(9), 9, 9, 10]
    one, other = groups[0].rollouts
    sampled = [
        t for r in (one, other) for t, m in zip(r.response_ids, r.loss_mask, strict=True) if m
    ]
    assert row.targets.tolist() == sampled
    assert row.advantages.tolist() == [1.0] * 4 + [-1.0] * 5
    assert row.sampled_logprobs.tolist() == [
        p for r in (one, other) for p, m in zip(r.logprobs, r.loss_mask, strict=True) if m
    ]


def test_rows_are_as_few_as_the_budget_allows_and_alike_in_attention() -> None:
    lengths, shared = [100, 100, 10, 10, 10, 10], [0, 0, 0, 0, 0, 0]
    # in order and within 220 tokens: [100, 100, 10, 10] and [10, 10] would be as few, and lopsided
    assert cut(lengths, shared, budget=220) == [(0, 1), (1, 6)]
    assert cut(lengths, shared, budget=240) == [(0, 6)]
    assert cut(lengths, shared, budget=1) == [(i, i + 1) for i in range(6)]
    assert cut([], [], budget=10) == []


def test_what_is_shared_is_paid_once_a_row() -> None:
    assert cut([100, 101, 102], [0, 99, 99], budget=105) == [(0, 3)]
    assert cut([100, 101, 102], [0, 99, 99], budget=104) == [(0, 2), (2, 3)]


def test_blocks_cover_the_row_and_see_each_path_once() -> None:
    branches = (Branch(-1, 400), Branch(-1, 3), *[Branch(0, 60)] * 3, Branch(1, 5), Branch(3, 7))
    found = blocks(branches)
    assert [(b.own.start, b.own.stop) for b in found] == [
        (0, 160), (160, 320), (320, 400), (400, 403), (403, 523), (523, 583), (583, 588), (588, 595)
    ]  # fmt: skip
    assert [b.runs for b in found[4:]] == [(60, 60), (60,), (5,), (7,)]
    assert [b.path for b in found[:2]] == [(), (slice(0, 160),)]
    assert found[-1].path == (slice(0, 400), slice(463, 523))
    assert max(b.num_queries for b in found) <= MOST_QUERIES
