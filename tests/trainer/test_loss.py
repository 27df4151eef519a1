"""Rewards -> advantages -> weights -> loss, and its gradient by every log-probability, against `longhand`."""

import math
import random

import pytest
import torch

from tests.trainer import longhand
from tests.trainer.attempts import MIXED, make_config, make_groups
from tests.trainer.longhand import SETTINGS, Answer, Setting, Token
from trainer.config import TrainConfig
from trainer.grpo.batch import pack
from trainer.grpo.loss import importance_weights, policy_loss
from trainer.grpo.rollout import Rollout, ScoredGroup

torch.set_num_threads(1)


def test_group_advantages_of_the_published_example() -> None:
    group = [longhand.Attempt(r, "finished", []) for r in (1.0, 1.0, *[0.0] * 6)]
    by_hand = longhand.advantages(group, longhand.DEEPSWE)
    assert by_hand == pytest.approx([6 / 7] * 2 + [-2 / 7] * 6)


@pytest.mark.parametrize("name", SETTINGS)
def test_loss_and_every_gradient_equal_the_longhand_reference(name: str) -> None:
    setting = SETTINGS[name]
    config = make_config(algorithm=longhand.algorithm_section(setting))
    groups = make_groups(MIXED, config)
    tokens = _tokens(groups, random.Random(1))
    expected = longhand.loss_and_gradient(_attempts(groups, tokens), setting)

    ours = _ours(groups, tokens, config)

    _assert_equal(ours.loss, expected.loss)
    assert any(expected.by_logprob.values())
    for token in tokens:
        _assert_equal(ours.by_logprob.get(token, 0.0), expected.by_logprob[token])
        _assert_equal(ours.by_entropy.get(token, 0.0), expected.by_entropy[token])


@pytest.mark.parametrize("name", SETTINGS)
def test_the_reference_gradient_is_the_slope_of_the_reference_loss(name: str) -> None:
    setting = SETTINGS[name]
    config = make_config(algorithm=longhand.algorithm_section(setting))
    groups = make_groups(MIXED, config)
    tokens = _tokens(groups, random.Random(1))
    step = 1e-6
    for token in random.Random(2).sample(sorted(tokens), 12):
        sides = [
            longhand.loss_and_gradient(
                _attempts(groups, tokens | {token: t._replace(logprob=t.logprob + side)}), setting
            )
            for side in (-step, step)
            for t in (tokens[token],)
        ]
        slope = (sides[1].loss - sides[0].loss) / (2 * step)
        middle = longhand.loss_and_gradient(_attempts(groups, tokens), setting)
        assert slope == pytest.approx(middle.by_logprob[token], rel=1e-4, abs=1e-9)


def test_every_setting_changes_the_loss_or_is_a_position_already_held() -> None:
    """Otherwise a switch that does nothing would pass the comparison above."""
    losses = {}
    for name, setting in SETTINGS.items():
        config = make_config(algorithm=longhand.algorithm_section(setting))
        groups = make_groups(MIXED, config)
        losses[name] = _ours(groups, _tokens(groups, random.Random(1)), config).loss
    assert len({round(loss, 12) for loss in losses.values()}) == len(SETTINGS)


def test_without_correction_the_importance_weight_is_one() -> None:
    old, sampled = torch.tensor([-1.0, -2.0]), torch.tensor([-3.0, -2.5])
    assert importance_weights(old, sampled, correction="none", cap=2.0, floor=0.5).tolist() == [
        1.0,
        1.0,
    ]


def test_tis_truncates_and_icepop_masks() -> None:
    sampled = torch.zeros(4, dtype=torch.float64)
    old = torch.tensor([3.0, 1.5, 0.6, 0.4], dtype=torch.float64).log()
    tis = importance_weights(old, sampled, correction="tis", cap=2.0, floor=0.5)
    icepop = importance_weights(old, sampled, correction="icepop", cap=2.0, floor=0.5)
    assert tis.tolist() == pytest.approx([2.0, 1.5, 0.6, 0.4])
    assert icepop.tolist() == pytest.approx([0.0, 1.5, 0.6, 0.0])


def test_a_kl_penalty_without_a_reference_is_refused() -> None:
    one = torch.zeros(1)
    with pytest.raises(ValueError, match="kl_coef=0.1: needs ref_logprobs"):
        policy_loss(one, one, one, one, clip_ratio_low=0.2, clip_ratio_high=0.28, kl_coef=0.1)


def test_clip_fractions_count_only_tokens_that_the_clip_stops() -> None:
    ratios = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.0])
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])
    terms = policy_loss(
        ratios.log(),
        torch.zeros(5),
        advantages,
        torch.ones(5),
        clip_ratio_low=0.2,
        clip_ratio_high=0.28,
    )
    assert terms.sums["clip/high"] == 1
    assert terms.sums["clip/low"] == 1
    assert float(terms.sums["ratio/mean"]) == pytest.approx(5.0)
    assert terms.loss.item() == pytest.approx(-(1.28 - 1.5 + 0.5 - 0.8 + 1.0))


def _tokens(groups: list[ScoredGroup], rng: random.Random) -> dict[int, Token]:
    """Log-probabilities for every sampled token; the ratios reach beyond both clips."""
    tokens = {}
    for rollout in (r for g in groups for r in g.rollouts):
        for name, mask, sampled in zip(
            rollout.response_ids, rollout.loss_mask, rollout.logprobs, strict=True
        ):
            if mask:
                old = sampled + rng.uniform(-0.4, 0.4)
                tokens[name] = Token(
                    name=name,
                    logprob=old + rng.uniform(-0.6, 0.6),
                    old=old,
                    sampled=sampled,
                    reference=old + rng.uniform(-0.5, 0.5),
                    entropy=rng.uniform(0.1, 3.0),
                )
    return tokens


def _attempts(groups: list[ScoredGroup], tokens: dict[int, Token]) -> list[list[longhand.Attempt]]:
    def attempt(rollout: Rollout) -> longhand.Attempt:
        sampled = [i for i, m in zip(rollout.response_ids, rollout.loss_mask, strict=True) if m]
        return longhand.Attempt(
            rollout.reward, rollout.termination_reason, [tokens[i] for i in sampled]
        )

    return [[attempt(r) for r in g.rollouts] for g in groups]


def _ours(groups: list[ScoredGroup], tokens: dict[int, Token], config: TrainConfig) -> Answer:
    """The trainer's functions on the same numbers, in float64."""
    algorithm = config.algorithm
    answer = Answer(0.0, {}, {})
    for row in pack(groups, config):
        names = row.targets.tolist()

        def values(field: str, names: list[int] = names) -> torch.Tensor:
            return torch.tensor([getattr(tokens[n], field) for n in names], dtype=torch.float64)

        logprobs = values("logprob").requires_grad_()
        entropy = values("entropy").requires_grad_()
        terms = policy_loss(
            logprobs,
            values("old"),
            row.advantages,
            row.weights,
            clip_ratio_low=algorithm.clip_ratio_low,
            clip_ratio_high=algorithm.clip_ratio_high,
            correction=importance_weights(
                values("old"),
                row.sampled_logprobs,
                correction=algorithm.importance_correction,
                cap=algorithm.importance_cap,
                floor=algorithm.importance_floor,
            ),
            ref_logprobs=values("reference"),
            kl_coef=algorithm.kl_coef,
            entropy=entropy,
            entropy_coef=algorithm.entropy_coef,
        )
        terms.loss.backward()
        assert logprobs.grad is not None
        by_entropy = entropy.grad if entropy.grad is not None else torch.zeros_like(entropy)
        answer = answer._replace(loss=answer.loss + terms.loss.item())
        answer.by_logprob.update(zip(names, logprobs.grad.tolist(), strict=True))
        answer.by_entropy.update(zip(names, by_entropy.tolist(), strict=True))
    return answer


def _assert_equal(ours: float, expected: float) -> None:
    assert math.isclose(ours, expected, rel_tol=1e-10, abs_tol=1e-14), f"{ours} is not {expected}"


def test_settings_reach_the_configuration() -> None:
    """Setting and [algorithm] name the same positions: the defaults of both are DeepSWE's."""
    assert (
        make_config().algorithm
        == make_config(algorithm=longhand.algorithm_section(Setting())).algorithm
    )
