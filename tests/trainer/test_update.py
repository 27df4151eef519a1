"""One whole update on tiny random models: every parameter's gradient, and that it does not depend on how work is cut."""

import random

import pytest
import torch
from torch import Tensor

from tests.trainer import longhand
from tests.trainer.attempts import make_config, make_groups
from tests.trainer.gradients import (
    alike_groups,
    apart,
    run_update,
    sample_near_the_policy,
    splitting,
)
from tests.trainer.longhand import SETTINGS, Answer, Setting, Token
from tests.trainer.random_models import (
    FAMILIES,
    VOCABULARY,
    alone,
    make_model,
    make_policy,
    to_double,
)
from trainer.grpo.batch import pack
from trainer.grpo.rollout import ScoredGroup
from trainer.model.policy import compile_layers

torch.set_num_threads(1)
TEMPERATURE = 0.7


@pytest.mark.parametrize("name", SETTINGS)
def test_every_parameters_gradient_equals_the_longhand_reference(name: str) -> None:
    """Float64, through packing, tree attention and chunks, against stock attention and one rollout at a time."""
    setting = SETTINGS[name]
    config = make_config(algorithm=longhand.algorithm_section(setting))
    groups = alike_groups(config)
    policy = make_policy("llama", temperature=TEMPERATURE)
    to_double(policy.model)
    policy.dtype = torch.float64
    reference = None
    if setting.kl_coef:
        reference = make_policy("llama", temperature=TEMPERATURE, seed=1)
        to_double(reference.model)
        reference.dtype = torch.float64
    sample_near_the_policy(groups, random.Random(3))

    result, ours = run_update(policy, groups, config, reference=reference)

    expected, loss = _reference_gradients(groups, setting)
    assert result.updated
    assert result.metrics["loss"][0] == pytest.approx(loss, rel=1e-10, abs=1e-14)
    assert ours.keys() == expected.keys()
    for parameter, gradient in expected.items():
        assert gradient.abs().max() > 0
        assert apart(ours[parameter], gradient) < 1e-10, parameter


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_do_not_depend_on_sharing_or_splitting(family: str) -> None:
    alone_each = _gradients(family, False, 1)
    cuts = [_gradients(family, True, budget) for budget in (1, 16, 24, 4096)]
    checkpointed = _gradients(family, True, 4096, checkpointed=True)
    for others in (*cuts, checkpointed):
        _assert_alike(others, alone_each)


@pytest.mark.filterwarnings("default")  # Dynamo's and Inductor's own
def test_compiled_layers_have_the_same_gradients() -> None:
    """Llama's; `test_distributed` has Qwen3's."""
    _assert_alike(_gradients("llama", True, 24, compiled=True), _gradients("llama", False, 1))


def test_the_splits_above_really_differ() -> None:
    rows = []
    for share_prefix, budget in ((False, 1), (True, 1), (True, 16), (True, 24), (True, 4096)):
        config = splitting(share_prefix, budget)
        rows.append([len(row.input_ids) for row in pack(alike_groups(config), config)])
    alone = rows[0]
    assert len(alone) == 5
    assert sorted(rows[1]) == sorted(alone)
    assert [len(row) for row in rows[2:]] == [4, 2, 1]
    # of 62 tokens the instruction is spared 4 times, the rest of a prompt 3 times, first turns 3 times
    assert sum(alone) - sum(rows[4]) > 4 * 2 + 2 * 3 + 3 * 2


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_scores_are_those_of_each_rollout_run_alone(
    family: str, attn_implementation: str
) -> None:
    config = splitting(True, 4096, kl_coef=0.1)
    groups = alike_groups(config)
    policy = make_policy(family, temperature=TEMPERATURE)
    stock = make_model(family, attn_implementation)
    with torch.no_grad():
        (row,) = pack(groups, config)
        each = [
            alone(stock, rollout, TEMPERATURE)
            for group in groups
            for rollout, filtered in zip(group.rollouts, group.filtered, strict=True)
            if not filtered
        ]
        scores = policy.scores(row)
        torch.testing.assert_close(
            scores.logprobs, torch.cat([a.logprobs for a in each]), rtol=1e-4, atol=2e-5
        )
        torch.testing.assert_close(
            scores.entropy, torch.cat([a.entropy for a in each]), rtol=1e-4, atol=2e-5
        )


def test_long_rollouts_are_scored_in_chunks_with_the_same_numbers() -> None:
    """More loss tokens than one chunk of logits holds."""
    config = make_config(rollout={"max_response_tokens": 400})
    pattern = "A" * 150 + "O" * 5 + "A" * 20
    groups = make_groups(
        [[(pattern, 1.0, "finished"), ("A", 0.0, "finished")]], config, vocabulary=VOCABULARY
    )
    stock = make_model("llama", "sdpa")
    (row,) = pack(groups, config)
    with torch.no_grad():
        scores = make_policy("llama", temperature=TEMPERATURE).scores(row)
        each = [alone(stock, rollout, TEMPERATURE) for rollout in groups[0].rollouts]
    expected = torch.cat([a.logprobs for a in each])
    assert len(scores.logprobs) == 171
    torch.testing.assert_close(scores.logprobs, expected, rtol=1e-4, atol=2e-5)


def _gradients(
    family: str,
    share_prefix: bool,
    micro_batch_tokens: int,
    *,
    checkpointed: bool = False,
    compiled: bool = False,
) -> dict[str, Tensor]:
    config = splitting(share_prefix, micro_batch_tokens)
    groups = alike_groups(config)
    sample_near_the_policy(groups, random.Random(3), family)
    policy = make_policy(family, temperature=TEMPERATURE)
    if checkpointed:
        policy.model.gradient_checkpointing_enable({"use_reentrant": False})
        policy.model.train()
    if compiled:
        compile_layers(policy.model)
    return run_update(policy, groups, config)[1]


def _assert_alike(gradients: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert gradients.keys() == expected.keys()
    for parameter, gradient in expected.items():
        assert apart(gradients[parameter], gradient) < 1e-5, parameter


def _reference_gradients(
    groups: list[ScoredGroup], setting: Setting
) -> tuple[dict[str, Tensor], float]:
    """Chain rule: the longhand slope of each log-probability and entropy, carried back by a stock float64 model."""
    stock = to_double(make_model("llama", "sdpa"))
    initial = to_double(make_model("llama", "sdpa", seed=1))
    logprobs: dict[int, Tensor] = {}
    entropies: dict[int, Tensor] = {}
    batch = []
    for group in groups:
        attempts = []
        for rollout in group.rollouts:
            scores = alone(stock, rollout, TEMPERATURE)
            with torch.no_grad():
                before = alone(initial, rollout, TEMPERATURE).logprobs.tolist()
            sampled = [p for p, m in zip(rollout.logprobs, rollout.loss_mask, strict=True) if m]
            tokens = []
            for logprob, entropy, said, ref in zip(*scores, sampled, before, strict=True):
                name = len(logprobs)
                logprobs[name], entropies[name] = logprob, entropy
                now = logprob.item()
                old = said if setting.correction == "none" else now
                tokens.append(Token(name, now, old, said, ref, entropy.item()))
            attempts.append(longhand.Attempt(rollout.reward, rollout.termination_reason, tokens))
        batch.append(attempts)
    answer: Answer = longhand.loss_and_gradient(batch, setting)
    surrogate = sum(
        (
            answer.by_logprob[n] * logprobs[n] + answer.by_entropy[n] * entropies[n]
            for n in logprobs
        ),
        start=torch.zeros(()).double(),
    )
    surrogate.backward()
    return {name: p.grad for name, p in stock.named_parameters() if p.grad is not None}, answer.loss
