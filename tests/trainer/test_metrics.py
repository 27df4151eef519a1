"""A batch's metrics, against numbers counted by hand."""

import pytest

from sandbox.trajectory import Action, Turn
from tests.trainer.attempts import make_config, make_groups
from trainer.metrics.steps import rollout_metrics, step_time_metrics

GROUPS = make_groups(
    [
        [("AA O A", 1.0, "finished"), ("AAA O", 0.0, "max_turns"), ("A", None, "infra")],
        [("A", 0.0, "finished"), ("AA", 0.0, "timeout")],
        [("A", 1.0, "finished"), ("A", 1.0, "finished")],
    ],
    make_config(),
    prompt_lengths=(5, 3, 7),
)
GROUPS[0].rollouts[0].turns += [
    Turn(index=0, text="", error="no call", generate_s=2.0, tool_s=0.5),
    Turn(
        index=1,
        text="",
        action=Action(tool="execute_bash", arguments={}),
        exit_code=2,
        generate_s=1.0,
        tool_s=0.25,
    ),
]
GROUPS[0].rollouts[0].grade_s = 3.0
GROUPS[0].rollouts[0].start_s = 0.5
for number, rollout in enumerate(r for g in GROUPS for r in g.rollouts):
    rollout.seconds = float(number + 1)
GROUPS[0].rollouts[1].flags = frozenset({"tampered"})
GROUPS[0].rollouts[2].turns.append(Turn(index=0, text="", error="lost"))
METRICS = rollout_metrics(GROUPS, 4.0)


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("reward/mean", (3, 6)),  # INFRA has no reward
        ("solved/none", (1, 3)),
        ("solved/some", (1, 3)),
        ("solved/all", (1, 3)),
        ("groups/trained", (1, 3)),
        ("advantage/abs_mean", (2, 6)),  # +1 and -1 in the first group
        ("filtered/fraction", (2, 6)),
        ("termination/finished", (4, 7)),
        ("termination/max_turns", (1, 7)),
        ("termination/timeout", (1, 7)),
        ("termination/infra", (1, 7)),
        ("outcome/infra", (1, 7)),
        ("turns/mean", (2, 6)),
        ("tokens/prompt", (5 + 5 + 3 + 3 + 7 + 7, 6)),
        ("tokens/sampled", (3 + 3 + 1 + 2 + 1 + 1, 6)),
        ("tokens/response", (4 + 4 + 1 + 2 + 1 + 1, 6)),
        ("tool/error_rate", (1, 2)),
        ("flags/fraction", (1, 6)),
        ("time/generate_s", (3, 6)),
        ("time/tool_s", (0.75, 6)),
        ("time/grade_s", (3, 6)),
        ("advantage/mean", (0, 6)),
        ("advantage/min", (-1, 1)),
        ("advantage/max", (1, 1)),
        ("filtered/reward", (0, 2)),
        ("filtered/solved", (0, 3)),
        ("truncated/fraction", (2, 7)),
        ("outcome/agent_fault", (0, 7)),
        ("tokens/observed", (1 + 1, 6)),
        ("tokens/sampled_p90", (3, 1)),
        ("tokens/response_max", (4, 1)),
        ("tokens/response_solved", (4 + 1 + 1, 3)),
        ("tokens/response_unsolved", (4 + 1 + 2, 3)),
        ("turns_p90", (2, 1)),
        ("turns_max", (2, 1)),
        ("tool/malformed_rate", (1, 2)),
        ("tool/refused_rate", (0, 2)),
        ("tool/exit_code_rate", (1, 2)),
        ("time/sandbox_start_s", (0.5, 6)),
        ("time/rollout_s_p50", (4, 1)),  # of 1, 2, 4, 5, 6, 7: nearest rank
        ("time/rollout_s_p95", (7, 1)),
        ("time/rollout_s_max", (7, 1)),
        # standard deviation over mean of (1, 2), (4, 5) and (6, 7)
        ("time/group_spread", (0.5 / 1.5 + 0.5 / 4.5 + 0.5 / 6.5, 3)),
        ("perf/sampled_tokens_per_s", (12, 4)),  # INFRA's token was sampled too
    ],
)
def test_metric(name: str, pair: tuple[float, float]) -> None:
    assert METRICS[name] == pytest.approx(pair)


def test_the_reward_deviation_is_that_of_all_counted_rollouts() -> None:
    numerator, denominator = METRICS["reward/std"]
    assert numerator / denominator == pytest.approx(0.5)


def test_a_batch_that_is_all_infra_divides_by_nothing() -> None:
    groups = make_groups([[("A", None, "infra")] * 2], make_config())
    metrics = rollout_metrics(groups, 1.0)
    assert metrics["reward/mean"] == (0.0, 0.0)
    assert metrics["solved/none"] == (0.0, 0.0)
    assert metrics["outcome/infra"] == (2.0, 2.0)


def test_solutions_that_a_filter_takes_out_are_counted() -> None:
    groups = make_groups(
        [[("A", 1.0, "max_turns"), ("A", 1.0, "finished"), ("A", 0.0, "timeout")]], make_config()
    )
    metrics = rollout_metrics(groups, 1.0)
    assert metrics["filtered/reward"] == (1.0, 2.0)
    assert metrics["filtered/solved"] == (1.0, 2.0)


def test_the_trainer_idles_while_it_waits_and_the_engine_while_nothing_is_in_flight() -> None:
    times = step_time_metrics(
        step_s=10.0, collect_s=6.0, update_s=3.0, engine_busy_s=5.0, generate_s=40.0
    )
    assert times["idle/trainer"] == (7.0, 10.0)
    assert times["idle/engine"] == (5.0, 10.0)
    assert times["engine/concurrency"] == (40.0, 5.0)
    parts = [times[f"time/{part}_s"][0] for part in ("collect", "update", "other")]
    assert sum(parts) == times["time/step_s"][0]
