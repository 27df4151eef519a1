"""The corner rules of GRPO++, one test each, on whole updates of a tiny random model.

That a reply cut at its own limit is an ordinary malformed turn is in test_agent.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.attempts import Attempt, make_config, make_groups
from tests.trainer.gradients import run_update
from tests.trainer.random_models import VOCABULARY, make_policy
from trainer.config import TrainConfig
from trainer.events import EventWriter, StepEnded, read_events
from trainer.grpo.batch import pack
from trainer.grpo.loss import token_weights
from trainer.grpo.rollout import ScoredGroup
from trainer.model.policy import Policy, make_optimizer
from trainer.training.update import UpdateResult, update

SOLVED: Attempt = ("AA O A", 1.0, "finished")
FAILED: Attempt = ("AAA OO A", 0.0, "finished")
OUT_OF_TURNS: Attempt = ("AAAA", 0.0, "max_turns")
INFRA: Attempt = ("AA", None, "infra")
NORMALIZERS = ["constant", "tokens", "sequence"]


def test_a_group_of_one_trains_nothing() -> None:
    _assert_nothing_learnt([[SOLVED]])


def test_groups_without_signal_cost_no_forward_pass() -> None:
    policy, passes = _counting_policy()
    run_update(
        policy, _groups([[SOLVED, SOLVED], [FAILED, FAILED], [SOLVED, FAILED]]), make_config()
    )
    assert len(passes) == 1
    policy, passes = _counting_policy()
    run_update(policy, _groups([[SOLVED, SOLVED], [FAILED, FAILED]]), make_config())
    assert passes == []


def test_with_a_kl_penalty_groups_without_signal_still_pull_towards_the_reference() -> None:
    config = make_config(algorithm={"kl_coef": 0.1})
    groups = _groups([[FAILED, FAILED]], config)
    result, gradients = run_update(
        make_policy("llama"), groups, config, reference=make_policy("llama", seed=1)
    )
    assert result.updated
    assert max(float(g.abs().max()) for g in gradients.values()) > 0


@pytest.mark.parametrize(
    "attempts",
    [[[FAILED, FAILED]], [[INFRA, INFRA]], [], [[OUT_OF_TURNS, OUT_OF_TURNS]], [[SOLVED, INFRA]]],
    ids=["no signal", "all INFRA", "no groups", "all filtered", "one left"],
)
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_a_batch_with_nothing_to_learn_takes_no_step_and_says_so(
    attempts: list[list[Attempt]], normalizer: str
) -> None:
    _assert_nothing_learnt(attempts, loss_normalizer=normalizer)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
def test_infra_counts_nowhere(normalizer: str, kl_coef: float) -> None:
    config = make_config(algorithm={"loss_normalizer": normalizer, "kl_coef": kl_coef})
    reference = make_policy("llama", seed=1)
    # the broken rollouts come last, so that the others keep their tokens
    without, _ = _gradients([[SOLVED, FAILED]], config, reference)
    with_infra, _ = _gradients([[SOLVED, FAILED, INFRA, INFRA], [INFRA]], config, reference)
    for name, gradient in without.items():
        assert torch.equal(gradient, with_infra[name]), name


def test_a_filtered_rollouts_row_counts_in_n() -> None:
    config = make_config()
    (row,) = pack(_groups([[SOLVED, FAILED, OUT_OF_TURNS, OUT_OF_TURNS, INFRA]]), config)
    # N = 4 of 5: the filtered two count, INFRA does not; L_max = 40
    assert row.weights.tolist() == [1 / (4 * 40)] * 7
    assert sorted(branch.length for branch in row.branches) == [4, 5, 6]


def test_filtered_tokens_count_in_no_token_mean() -> None:
    config = make_config(algorithm={"loss_normalizer": "tokens"})
    (row,) = pack(_groups([[SOLVED, FAILED, OUT_OF_TURNS]]), config)
    assert row.weights.tolist() == [1 / 7] * 7


def test_sequence_weights_average_each_rollout_first() -> None:
    weights = token_weights([3, 4], 5, loss_normalizer="sequence", max_response_tokens=40)
    assert weights == [1 / 15, 1 / 20]


def test_tokens_after_the_last_sampled_one_cost_nothing() -> None:
    config = make_config()
    (row,) = pack(_groups([[("AA OOOOO", 1.0, "finished"), FAILED]]), config)
    assert sorted(branch.length for branch in row.branches) == [2, 5, 6]
    assert len(row.input_ids) == 5 + 2 + 6


def test_a_rollout_without_tokens_trains_nothing_and_counts_in_n() -> None:
    config = make_config()
    (row,) = pack(_groups([[SOLVED, FAILED, ("", 0.0, "timeout")]], config), config)
    assert row.weights.tolist() == [1 / (3 * 40)] * 7


def test_a_loss_that_is_not_finite_is_skipped_and_counted(tmp_path: Path) -> None:
    policy = make_policy("llama")
    with torch.no_grad():
        policy.model.model.norm.weight[0] = math.nan
    result = _assert_skipped(policy, _groups([[SOLVED, FAILED]]))
    assert "loss nan" in result.reason
    _assert_fit_for_an_event(result, tmp_path)


def test_a_gradient_that_is_not_finite_is_skipped_and_counted(tmp_path: Path) -> None:
    """The clip makes the loss of a huge ratio finite; its gradient is 0 times infinity."""
    groups = _groups([[SOLVED, FAILED]])
    groups[0].rollouts[0].logprobs[0] = -1000.0
    result = _assert_skipped(make_policy("llama"), groups)
    assert result.metrics["loss"][1] == 1.0
    assert "gradient norm nan" in result.reason
    _assert_fit_for_an_event(result, tmp_path)


def test_a_gradient_norm_at_the_limit_is_skipped_and_counted() -> None:
    config = make_config(optimizer={"skip_grad_norm": 1e-9})
    result = _assert_skipped(make_policy("llama"), _groups([[SOLVED, FAILED]]), config)
    assert "step skipped" in result.reason


def test_gradients_are_clipped_to_the_global_norm() -> None:
    groups = _groups([[SOLVED, FAILED]])
    free, result = _gradients([[SOLVED, FAILED]], make_config(), None)
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in free.values()))
    limit = norm / 4
    config = make_config(optimizer={"max_grad_norm": limit, "skip_grad_norm": 1e9})
    clipped = run_update(make_policy("llama"), groups, config)[1]
    assert result.metrics["grad_norm"][0] == pytest.approx(norm, rel=1e-5)
    for name, gradient in free.items():
        torch.testing.assert_close(clipped[name], gradient / 4, rtol=1e-4, atol=1e-9)


def _groups(attempts: list[list[Attempt]], config: TrainConfig | None = None) -> list[ScoredGroup]:
    return make_groups(attempts, config or make_config(), vocabulary=VOCABULARY)


def _gradients(
    attempts: list[list[Attempt]], config: TrainConfig, reference: Policy | None
) -> tuple[dict[str, torch.Tensor], UpdateResult]:
    groups = _groups(attempts, config)
    used = reference if config.algorithm.kl_coef else None
    result, gradients = run_update(make_policy("llama"), groups, config, reference=used)
    return gradients, result


def _counting_policy() -> tuple[Policy, list[int]]:
    policy, passes = make_policy("llama"), []
    policy.model.model.register_forward_hook(lambda *_: passes.append(1))
    return policy, passes


def _assert_nothing_learnt(attempts: list[list[Attempt]], **algorithm: Any) -> None:
    config = make_config(algorithm=algorithm)
    policy = make_policy("llama")
    result = _take_no_step(policy, _groups(attempts, config), config)
    assert result.reason == "no rollout carried a gradient"
    assert result.metrics == {}


def _assert_skipped(
    policy: Policy, groups: list[ScoredGroup], config: TrainConfig | None = None
) -> UpdateResult:
    result = _take_no_step(policy, groups, config or make_config())
    assert result.metrics["update/skipped"] == (1.0, 1.0)
    return result


def _take_no_step(policy: Policy, groups: list[ScoredGroup], config: TrainConfig) -> UpdateResult:
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    optimizer = make_optimizer(policy.model, config.optimizer)
    result = update(
        policy, optimizer, groups, config, step=1, reference=None, stopping=lambda: False
    )
    assert not result.updated
    assert not optimizer.state
    for name, parameter in policy.model.named_parameters():
        assert torch.equal(parameter.nan_to_num(7.0), before[name].nan_to_num(7.0)), name
        assert parameter.grad is None, name
    return result


def _assert_fit_for_an_event(result: UpdateResult, run_dir: Path) -> None:
    assert all(math.isfinite(x) for pair in result.metrics.values() for x in pair)
    events = EventWriter(run_dir)
    events.write(
        StepEnded(step=1, policy_version=0, updated=False, seconds=1.0, metrics=result.metrics)
    )
    events.close()
    ((_, event),) = read_events(events.path)
    assert isinstance(event, StepEnded)
    assert event.metrics["loss"] == result.metrics["loss"]
