"""A batch's metrics, against numbers counted by hand."""

import pytest

from sandbox.trajectory import Turn
from tests.trainer.attempts import make_config, make_groups
from trainer.metrics import rollout_metrics

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
    Turn(index=1, text="", generate_s=1.0, tool_s=0.25),
]
GROUPS[0].rollouts[0].grade_s = 3.0
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
