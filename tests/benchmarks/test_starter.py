"""The README's table of starter runs: passes, the paired bootstrap, and the marks it is written between."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import starter
from benchmarks.starter import paired_bootstrap, pass_rewards, table


def summary(rewards: list[float]) -> dict[str, object]:
    steps = [
        {
            "step": i + 1,
            "seconds": 10.0,
            "metrics": {
                "reward/mean": (8 * r, 8.0),
                "perf/sampled_tokens_per_s": (100.0, 5.0),
                "mismatch/abs_diff": (0.4, 100.0),
            },
        }
        for i, r in enumerate(rewards)
    ]
    return {
        "seed": 0,
        "tasks": ["a", "b", "c", "d"],
        "tasks_per_step": 2,
        "steps": steps,
        "untrained": {"x": [0.0, 0.0], "y": [0.0, 1.0]},
        "trained": {"x": [1.0, 1.0], "y": [0.0, 1.0]},
        "seconds": 600.0,
    }


def test_first_and_last_pass_cover_every_task_once() -> None:
    assert pass_rewards(summary([0.1, 0.3, 0.5, 0.6, 0.8])) == pytest.approx((0.2, 0.7))


def test_bootstrap_of_equal_scores_is_zero() -> None:
    scores = {"x": [0.0, 1.0], "y": [1.0, 1.0]}
    assert paired_bootstrap(scores, scores) == (0.0, 0.0, 0.0)


def test_bootstrap_resamples_tasks_not_rollouts() -> None:
    before = {"x": [0.0] * 8, "y": [0.0] * 8}
    after = {"x": [1.0] * 8, "y": [0.0] * 8}
    assert paired_bootstrap(before, after) == (0.5, 0.0, 1.0)


def test_table_has_a_row_a_seed() -> None:
    assert table([summary([0.1, 0.3, 0.5, 0.7])]).splitlines()[2] == (
        "| 0 | 0.20 | 0.60 | 0.25 | 0.75 | +0.50 (+0.00 to +1.00) | 10 | 100 | 0.004 | 10 |"
    )


def test_a_run_that_did_not_evaluate_the_untrained_policy_is_refused_for_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = summary([0.1, 0.3]) | {"untrained": {}}
    monkeypatch.setattr(starter, "summarise_run", lambda _: told)
    monkeypatch.setattr(starter, "RESULTS", tmp_path / "results")
    ran = CliRunner().invoke(starter.main, ["summarise", str(tmp_path)])
    assert ran.exit_code == 1
    assert "evaluation.untrained = false" in ran.output
    assert not list(tmp_path.glob("results/*"))
