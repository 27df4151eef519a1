"""What a configuration costs, by hand: counts from the configuration, time from measured steps."""

import pytest

from trainer.recipes import load_recipe
from webapp.runs.estimate import Pace, estimate, parameters_of

EVERY_8 = {"num_steps": 16, "evaluation": {"every_steps": 8}}
PACE = Pace(step_s=50.0, rollouts_per_step=64, num_steps=16)


def test_rollouts_follow_from_the_configuration():
    cost = estimate(load_recipe("starter-cpu", EVERY_8), heldout_tasks=36, pace=None)
    # 8 tasks x 8 rollouts; 16 steps; evaluations before step 1 and after 8 and 16, of 16 tasks x 8
    assert (cost.rollouts_per_step, cost.train_rollouts) == (64, 1024)
    assert (cost.num_evaluations, cost.evaluation_rollouts) == (3, 384)
    assert cost.rollouts == 1408
    assert cost.max_tokens_per_step == 64 * (900 + 800)


def test_a_taskset_with_fewer_heldout_tasks_than_the_limit_costs_fewer_rollouts():
    cost = estimate(load_recipe("starter-cpu", EVERY_8), heldout_tasks=5, pace=None)
    assert cost.evaluation_rollouts == 3 * 5 * 8


def test_extra_groups_are_told_beside_the_rollouts_of_a_step():
    config = load_recipe("starter-cpu", {"tasks": {"max_extra_groups": 3}})
    cost = estimate(config, heldout_tasks=0, pace=None)
    assert (cost.rollouts_per_step, cost.extra_rollouts_per_step) == (64, 24)


def test_time_scales_with_the_rollouts_of_a_step():
    config = load_recipe("starter-cpu", {"num_steps": 16, "rollout": {"group_size": 4}})
    cost = estimate(config, heldout_tasks=0, pace=PACE)
    assert (cost.step_s, cost.seconds) == (25.0, 400.0)


def test_time_is_unknown_until_it_was_measured():
    assert estimate(load_recipe("starter-cpu"), heldout_tasks=16, pace=None).seconds is None


def test_disk_holds_the_kept_checkpoints_with_optimizer_state():
    cost = estimate(load_recipe("starter-cpu"), heldout_tasks=16, pace=None)
    assert cost.checkpoint_gib == pytest.approx(135e6 * 12 / 1024**3)
    assert 2 * cost.checkpoint_gib < cost.disk_gib < 2 * cost.checkpoint_gib + 0.1


def test_disk_holds_the_checkpoint_after_the_last_step_too():
    config = load_recipe("starter-cpu", {"num_steps": 10, "checkpoint": {"every_steps": 8}})
    cost = estimate(config, heldout_tasks=0, pace=None)
    assert cost.disk_gib > 2 * cost.checkpoint_gib


def test_disk_is_unknown_for_a_model_whose_name_has_no_size():
    config = load_recipe("starter-cpu", {"model": {"path": "/models/mine"}})
    assert estimate(config, heldout_tasks=16, pace=None).disk_gib is None


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("var/models/smollm2-135m", 135e6), ("Qwen/Qwen3-0.6B", 0.6e9), ("Qwen/Qwen3-32B", 32e9)],
)
def test_the_size_is_read_from_the_model_s_name(model: str, parameters: float):
    assert parameters_of(model) == pytest.approx(parameters)
