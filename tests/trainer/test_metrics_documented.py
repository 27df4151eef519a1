"""docs/metrics.md names every metric that a step may have and every alarm, and none that there is not."""

import re
from pathlib import Path

from sandbox.trajectory import Turn
from tests.trainer.attempts import MIXED, make_config, make_groups
from tests.trainer.gradients import run_update
from tests.trainer.random_models import VOCABULARY, make_policy
from trainer.metrics.alarms import RULES, STALL
from trainer.metrics.speed import speed_tally
from trainer.metrics.steps import rollout_metrics, step_time_metrics
from trainer.rollouts.curriculum import resting_metrics
from trainer.rollouts.resample import Batch
from trainer.rollouts.staleness import staleness_metrics

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
REASONS = re.compile(r"termination/\w+")


def measured() -> set[str]:
    """The names of everything on a batch with a KL penalty, on a device whose ceiling is known."""
    config = make_config(algorithm={"kl_coef": 0.1})
    groups = make_groups(MIXED, config, vocabulary=VOCABULARY)
    groups[0].rollouts[0].turns.append(Turn(index=0, text=""))
    groups[0].rollouts[0].seconds = 1.0
    reference = make_policy("llama", seed=1)
    result, _ = run_update(make_policy("llama"), groups, config, reference=reference)
    times = dict.fromkeys(("step_s", "collect_s", "update_s", "engine_busy_s", "generate_s"), 1.0)
    shape = reference.model.config.to_dict()
    names = {
        *rollout_metrics(groups, 1.0),
        *Batch(groups, groups).metrics(),
        *resting_metrics({}, config.tasks),
        *staleness_metrics(groups, 0),
        *result.metrics,
        *speed_tally(shape, [], config, {"optimizer": 1.0}, 1e12).metrics(),
        *step_time_metrics(**times),
    }
    return {REASONS.sub("termination/<reason>", name) for name in names}


def test_every_metric_is_documented_and_every_documented_one_exists() -> None:
    assert first_column(PAGE.partition("## Alarms")[0]) == measured()


def test_every_alarm_is_documented() -> None:
    alarms = {rule.name for rule in RULES} | {STALL}
    assert first_column(PAGE.partition("## Alarms")[2]) == alarms


def first_column(text: str) -> set[str]:
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
