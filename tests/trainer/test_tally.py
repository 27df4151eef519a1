"""Tallies add up: any split of the same measurements, merged in any order, gives the metrics of the whole."""

import itertools
import math
import random

import pytest
import torch

from tests.trainer.attempts import MIXED, make_config, make_groups
from trainer.grpo.batch import pack
from trainer.metrics.tally import Ratio, Tally, merge
from trainer.metrics.tokens import batch_tally, token_tally, with_effective_sample_size


def measured(tokens: range) -> Tally:
    """What a micro-batch of these tokens shows; token t has the same numbers in whichever micro-batch it is."""
    values = [random.Random(token) for token in tokens]
    columns = [[rng.uniform(-3.0, -0.1) for rng in values] for _ in range(4)]
    logprobs, old, sampled, entropy = (torch.tensor(column).double() for column in columns)
    return token_tally(
        logprobs=logprobs,
        old_logprobs=old,
        sampled_logprobs=sampled,
        correction=torch.exp(old - sampled).clamp(max=2.0),
        entropy=-entropy,
        sums={"entropy": -entropy.sum()},
        cap=2.0,
        floor=0.5,
    )


def test_any_split_over_ranks_and_micro_batches_gives_the_same_metrics() -> None:
    whole = with_effective_sample_size(measured(range(60))).metrics()
    for cuts in ((0, 60), (0, 1, 60), (0, 7, 30, 31, 60), tuple(range(61))):
        parts = [measured(range(a, b)) for a, b in itertools.pairwise(cuts)]
        random.Random(len(cuts)).shuffle(parts)
        metrics = with_effective_sample_size(merge(parts)).metrics()
        assert metrics.keys() == whole.keys()
        for name, pair in whole.items():
            assert metrics[name] == pytest.approx(pair, rel=1e-12), name


def test_a_rank_without_rows_changes_nothing() -> None:
    assert merge([measured(range(5)), Tally()]) == merge([measured(range(5))])


def test_a_row_without_loss_tokens_shows_nothing() -> None:
    assert measured(range(0)) == Tally()


def test_ratios_add_and_maxima_do_not() -> None:
    one, two = Tally(), Tally()
    one.add("mean", 1, 4)
    two.add("mean", 2, 2)
    one.raise_to("max", -3.0)
    two.raise_to("max", -5.0)
    assert merge([one, two]) == Tally(ratios={"mean": Ratio(3, 6)}, maxima={"max": -3.0})


@pytest.mark.parametrize("order", [(math.nan, 1.0), (1.0, math.nan)])
def test_what_is_not_a_number_is_not_hidden_by_a_number(order: tuple[float, float]) -> None:
    tally = Tally()
    for value in order:
        tally.raise_to("max", value)
    assert tally.metrics() == {"max": (0.0, 0.0)}


def test_the_numbers_of_three_tokens() -> None:
    """Ratios to the sampler 2, 1 and 1/2; to the old policy 1, 1 and 1/2."""
    log2 = math.log(2)
    tally = token_tally(
        logprobs=torch.tensor([-1.0, -1.0, -1.0 - log2]).double(),
        old_logprobs=torch.tensor([-1.0, -1.0, -1.0]).double(),
        sampled_logprobs=torch.tensor([-1.0 - log2, -1.0, -1.0]).double(),
        correction=torch.tensor([0.0, 1.0, 1.5]).double(),
        entropy=torch.tensor([0.5, 0.25, 0.25]).double(),
        sums={},
        cap=1.5,
        floor=0.75,
    )
    metrics = with_effective_sample_size(tally).metrics()
    k3 = (2 - 1 - log2) + 0 + (0.5 - 1 + log2)
    expected = {
        "mismatch/kl": (k3, 3),
        "mismatch/abs_diff": (2 * log2, 3),
        "mismatch/max": (log2, 1),
        "importance/ratio": (3.5, 3),
        "importance/ratio_squared": (5.25, 3),
        "importance/effective_sample": (3.5**2, 3 * 5.25),
        "mismatch/kl_over_entropy": (k3, 1.0),
        "kl/k1": (log2, 3),
        "ratio/max": (1.0, 1),
        "importance/mean": (2.5, 3),
        "importance/max": (1.5, 1),
        "importance/capped": (1, 3),
        "importance/masked": (2, 3),
        "logprob/mean": (-3.0 - log2, 3),
        "logprob/nonfinite": (0, 3),
    }
    assert metrics.keys() == expected.keys()
    for name, pair in expected.items():
        assert metrics[name] == pytest.approx(pair), name


def test_how_full_the_rows_are() -> None:
    config = make_config(optimizer={"micro_batch_tokens": 16})
    rows = pack(make_groups(MIXED, config), config)
    metrics = batch_tally(rows, 16).metrics()
    tokens = sum(len(row.input_ids) for row in rows)
    assert metrics["batch/rows"] == (4, 1)
    assert metrics["batch/fill"] == (tokens, 4 * 16)
    assert metrics["batch/row_tokens_max"] == (max(len(row.input_ids) for row in rows), 1)
    assert metrics["batch/loss_tokens"] == (sum(len(row.targets) for row in rows), tokens)
