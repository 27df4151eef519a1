"""Alarms on histories written down here: raised once, standing, cleared, and right again after a resumption."""

import time
from pathlib import Path
from uuid import UUID

import pytest

from trainer.events import (
    EVENTS_FILE,
    Alarm,
    AnyEvent,
    EventWriter,
    Metric,
    Resumed,
    StepEnded,
    read_events_of,
)
from trainer.metrics.alarm_watch import AlarmWatch
from trainer.metrics.alarms import RULES, Metrics, changes, stall, standing_alarms

HEALTHY: dict[str, Metric] = {
    "groups/trained": (6, 8),
    "truncated/fraction": (3, 64),
    "outcome/infra": (0, 64),
    "mismatch/kl": (0.4, 400),
    "entropy": (200, 400),
    "filtered/solved": (1, 20),
}


def healthy_but(**bad: Metric) -> dict[str, Metric]:
    """`truncated__fraction` stands for truncated/fraction."""
    return HEALTHY | {name.replace("__", "/"): pair for name, pair in bad.items()}


def told(history: list[Metrics]) -> list[list[str]]:
    """What each step raises (+rule) and clears (-rule)."""
    standing: set[str] = set()
    steps = []
    for step in range(1, len(history) + 1):
        alarms = changes(history[:step], standing, step)
        standing = {a.rule for a in alarms if not a.cleared} | (
            standing - {a.rule for a in alarms if a.cleared}
        )
        steps.append([("-" if alarm.cleared else "+") + alarm.rule for alarm in alarms])
    return steps


def test_a_healthy_run_raises_nothing() -> None:
    assert told([HEALTHY] * 12) == [[]] * 12


@pytest.mark.parametrize(
    ("rule", "bad", "almost"),
    [
        ("no_signal", {"groups__trained": (4, 8)}, {"groups__trained": (5, 8)}),
        ("truncated", {"truncated__fraction": (16, 64)}, {"truncated__fraction": (15, 64)}),
        ("aborted", {"outcome__infra": (6, 100)}, {"outcome__infra": (5, 100)}),
        ("mismatch", {"mismatch__kl": (4.1, 400)}, {"mismatch__kl": (4.0, 400)}),
        ("filtered", {"filtered__solved": (5, 20)}, {"filtered__solved": (4, 20)}),
    ],
)
def test_the_limit_of_each_rate(
    rule: str, bad: dict[str, Metric], almost: dict[str, Metric]
) -> None:
    assert told([healthy_but(**almost)] * 3) == [[], [], []]
    assert told([healthy_but(**bad)] * 3) == [[f"+{rule}"], [], []]


def test_an_alarm_is_told_once_and_once_more_when_it_is_over() -> None:
    bad = healthy_but(truncated__fraction=(40, 64))
    steps = told([bad, bad, bad, HEALTHY, HEALTHY, HEALTHY, bad])
    assert steps == [["+truncated"], [], [], [], ["-truncated"], [], ["+truncated"]]


def test_a_value_between_the_two_limits_changes_nothing() -> None:
    bad, between = (healthy_but(truncated__fraction=(n, 64)) for n in (20, 14))
    assert told([bad, bad, between, between, between]) == [["+truncated"], [], [], [], []]
    assert told([between] * 3) == [[], [], []]


def test_rates_are_sums_over_sums_of_the_newest_steps() -> None:
    """One lost rollout of two in a step with next to none is no storm beside a full step."""
    small = healthy_but(outcome__infra=(1, 2))
    assert told([HEALTHY, small]) == [[], []]
    assert told([small]) == [["+aborted"]]


def test_entropy_is_compared_with_the_first_steps() -> None:
    low = healthy_but(entropy=(40, 400))
    assert told([HEALTHY] * 3 + [low] * 3) == [[], [], [], [], [], ["+entropy"]]
    half = healthy_but(entropy=(100, 400))
    assert told([HEALTHY] * 3 + [half] * 9) == [[]] * 12


def test_steps_that_measured_nothing_say_nothing() -> None:
    skipped = healthy_but(mismatch__kl=(0, 0), entropy=(0, 0))
    high = healthy_but(mismatch__kl=(8, 400))
    assert told([high, skipped, skipped, {}, HEALTHY]) == [
        ["+mismatch"], [], [], [], ["-mismatch"],
    ]  # fmt: skip


def test_every_alarm_is_a_plain_sentence_with_a_remedy() -> None:
    for rule in RULES:
        sentence = rule.sentence.format(value=0.5)
        assert sentence.endswith(".")
        assert "50%" in sentence or "0.5" in sentence
        assert rule.remedy.endswith(".")
        assert rule.clear_below < rule.limit


def test_a_step_stalls_when_it_takes_far_longer_than_those_before() -> None:
    assert stall(7, 599, [100.0, 90.0, 110.0]) is None
    alarm = stall(7, 601, [100.0, 90.0, 110.0])
    assert alarm
    assert (
        alarm.sentence
        == "Step 7 has been going on for more than 10 minutes; the steps before took 100 s."
    )
    assert stall(2, 299, [1.0]) is None
    assert stall(2, 301, [1.0]) is not None
    assert stall(1, 1799, []) is None
    assert stall(1, 1801, []) is not None


def alarm(step: int, rule: str, *, cleared: bool = False) -> Alarm:
    return Alarm(step=step, rule=rule, sentence=".", remedy=".", cleared=cleared)


def resumed(from_step: int) -> Resumed:
    return Resumed(run=UUID(int=1), attempt=2, from_step=from_step)


@pytest.mark.parametrize(
    ("events", "standing"),
    [
        ([alarm(1, "a"), alarm(2, "b"), alarm(3, "a", cleared=True)], ["b"]),
        ([alarm(1, "a"), alarm(3, "a", cleared=True), resumed(2)], ["a"]),
        ([alarm(3, "a"), resumed(2)], []),
        ([alarm(3, "a"), resumed(2), alarm(3, "b"), resumed(3)], ["b"]),
    ],
    ids=["cleared", "clearing undone", "raising undone", "a third attempt"],
)
def test_what_stands_after_these_events(events: list[AnyEvent], standing: list[str]) -> None:
    assert list(standing_alarms(events)) == standing


def ended(step: int, metrics: Metrics) -> StepEnded:
    return StepEnded(
        step=step, policy_version=step, updated=True, seconds=1.0, metrics=dict(metrics)
    )


def watch_steps(run_dir: Path, steps: list[StepEnded], resumed_from: int | None = None) -> None:
    """One attempt of a run that writes its steps and lets the watch see them."""
    events = EventWriter(run_dir)
    if resumed_from is not None:
        events.write(resumed(resumed_from))
    watch = AlarmWatch(run_dir, events)
    for step in steps:
        watch.step_began(step.step)
        events.write(step)
        watch.step_ended(step)
    watch.close()
    events.close()


def alarms_in(run_dir: Path) -> list[tuple[int, str, bool]]:
    events = read_events_of(run_dir / EVENTS_FILE, {"alarm"})
    return [(e.step, e.rule, e.cleared) for e in events if isinstance(e, Alarm)]


def test_a_resumed_run_goes_on_where_its_alarms_stood(tmp_path: Path) -> None:
    """Steps 3 and 4 are done over: the clearing at 4 counts no more, and the raising at 1 is not told again."""
    bad = healthy_but(truncated__fraction=(40, 64))
    watch_steps(tmp_path, [ended(1, bad), ended(2, bad), ended(3, HEALTHY), ended(4, HEALTHY)])
    assert alarms_in(tmp_path) == [(1, "truncated", False), (4, "truncated", True)]
    watch_steps(tmp_path, [ended(3, bad), ended(4, HEALTHY), ended(5, HEALTHY)], resumed_from=2)
    assert alarms_in(tmp_path)[2:] == [(5, "truncated", True)]


def test_a_stall_is_told_while_it_lasts_and_cleared_with_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.metrics.alarms.FIRST_STEP_STALL_S", 0.05)
    events = EventWriter(tmp_path)
    watch = AlarmWatch(tmp_path, events, poll_s=0.01)
    watch.step_began(1)
    deadline = time.monotonic() + 10
    while not alarms_in(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)
    assert alarms_in(tmp_path) == [(1, "stall", False)]
    watch.step_ended(ended(1, HEALTHY))
    assert alarms_in(tmp_path) == [(1, "stall", False), (1, "stall", True)]
    watch.close()
    events.close()
