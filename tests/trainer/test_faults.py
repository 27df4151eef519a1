"""`python -m trainer` as a process of its own on the tiny model: whole runs, stops, and sudden death.

An entropy bonus and no filtering let the untaught model take real optimizer steps though it never solves a task.
"""

import importlib.util
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
from safetensors.torch import load_file

from sandbox.task import load_taskset
from tests.trainer.conftest import MakeConfig
from tests.trainer.running_trainer import (
    EXIT_TIMEOUT_S,
    ROOT,
    START_TIMEOUT_S,
    STOP_TIMEOUT_S,
    Run,
    assert_gapless,
    assert_stopped,
    last,
    of,
    write_config,
)
from tests.trainer.shared_memory import orphaned_segments
from trainer.__main__ import LOCK_FILE
from trainer.config import CONFIG_FILE, load_config
from trainer.events import (
    EVENTS_FILE,
    AnyEvent,
    CheckpointSaved,
    Evaluated,
    GroupScored,
    LogLine,
    PhaseEnded,
    Resumed,
    RolloutFinished,
    RolloutStarted,
    Started,
    StepEnded,
)
from trainer.nodes.folder_lock import held_alone
from trainer.rollouts.curriculum import Visits, draw, remember
from trainer.rollouts.practice import training_tasks

MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(run_config: MakeConfig, tmp_path: Path) -> Iterator[MakeRun]:
    runs: list[Run] = []

    def make(**sections: Any) -> Run:
        quick = {"max_turn_tokens": 16, "max_response_tokens": 300}
        sections["rollout"] = quick | sections.get("rollout", {})
        learns = {"entropy_coef": 0.01, "compact_filtering": []}
        config = run_config(**sections, algorithm=learns)
        runs.append(Run(write_config(config, tmp_path / uuid4().hex)))
        return runs[-1]

    yield make
    for run in runs:
        run.end()


def test_a_whole_run_ends_with_every_event_in_place(make_run: MakeRun) -> None:
    run = make_run(
        evaluation={"every_steps": 2, "limit": 1, "group_size": 1}, hardware={"peak_tflops": 0}
    )
    run.start()
    assert run.wait(START_TIMEOUT_S) == 0, run.output()
    events = run.events()
    assert_gapless(events)
    assert isinstance(events[0], Started)
    assert len(events[0].tasks) == 2
    assert (last(events).status, last(events).step) == ("finished", 2)
    steps = of(StepEnded, events)
    assert [(e.step, e.updated, e.policy_version) for e in steps] == [(1, True, 1), (2, True, 2)]
    assert [e.step for e in of(Evaluated, events)] == [0, 2]
    assert [e.step for e in of(CheckpointSaved, events)] == [1, 2]
    started, finished = of(RolloutStarted, events), of(RolloutFinished, events)
    assert {e.rollout for e in started} == {e.rollout for e in finished}
    assert len(finished) == len(started) == 2 * 2 * 2 + 2
    assert {e.termination_reason for e in finished} <= {"max_turns", "max_context", "finished"}
    assert {e.outcome for e in finished} == {"task"}
    difference, tokens = steps[0].metrics["mismatch/abs_diff"]
    assert difference / tokens < 1e-4
    for name in ("perf/mfu", "idle/engine", "idle/trainer"):
        share, whole = steps[0].metrics[name]
        assert 0 < share < whole, name
    assert any(
        re.search("MFU is a share of .*, measured here", e.text) for e in of(LogLine, events)
    )
    assert run.left_behind() == []


def draws_when_nobody_solves_anything(run: Run, steps: int) -> list[set[str]]:
    """The tasks of each step of an uninterrupted run."""
    config = load_config(run.folder / CONFIG_FILE)
    pool = training_tasks(load_taskset(config.tasks.taskset), config)
    cursor = 0
    history: dict[str, Visits] = {}
    drawn: list[set[str]] = []
    for _ in range(steps):
        tasks, cursor, history = draw(
            pool,
            config.tasks.tasks_per_step,
            cursor=cursor,
            history=history,
            config=config.tasks,
            seed=config.seed,
        )
        drawn.append({task.task_id for task in tasks})
        history = remember(history, dict.fromkeys(drawn[-1], 0.0), config.tasks)
    return drawn


def test_a_killed_trainer_goes_on_from_its_last_checkpoint(make_run: MakeRun) -> None:
    run = make_run(
        num_steps=3,
        tasks={
            "limit": 5,
            "tasks_per_step": 2,
            "shuffle": True,
            "rest_after_visits": 1,
            "rest_passes": 2,
        },
    )
    run.start()
    run.until(lambda e: isinstance(e, RolloutStarted) and e.step == 2)
    run.signal(signal.SIGKILL)
    run.wait(EXIT_TIMEOUT_S)
    before = run.events()
    with (run.folder / EVENTS_FILE).open("ab") as file:
        file.write(b'{"seq": 99, "torn')
    run.start()
    assert run.wait(START_TIMEOUT_S) == 0, run.output()
    events = run.events()
    assert_gapless(events)
    assert events[: len(before)] == before
    resumed = events[len(before)]
    assert isinstance(resumed, Resumed)
    assert (resumed.attempt, resumed.from_step, str(resumed.run)) == (2, 1, run.run_id())
    after = events[len(before) :]
    assert [e.step for e in of(StepEnded, after)] == [2, 3]
    assert {e.policy_version for e in of(RolloutStarted, after) if e.step == 2} == {1}
    assert last(events).status == "finished"
    drawn = [{e.task for e in of(RolloutStarted, events) if e.step == step} for step in (1, 2, 3)]
    assert drawn == draws_when_nobody_solves_anything(run, 3)
    assert run.left_behind() == []
    trained = load_file(run.folder / "checkpoints/step_3/model/model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in trained.values())


def test_a_stop_while_the_engine_starts(make_run: MakeRun) -> None:
    run = make_run()
    run.start()
    run.until(lambda e: isinstance(e, Started))
    run.signal(signal.SIGTERM)
    assert_stopped(run, at_step=0)


def test_a_stop_during_rollouts(make_run: MakeRun) -> None:
    run = make_run(rollout={"max_turns": 50, "max_response_tokens": 900})
    run.start()
    run.until(lambda e: isinstance(e, RolloutStarted))
    run.signal(signal.SIGTERM)
    assert_stopped(run, at_step=0)
    events = run.events()
    started, finished = of(RolloutStarted, events), of(RolloutFinished, events)
    assert {e.rollout for e in started} == {e.rollout for e in finished}
    assert {(e.outcome, e.reward) for e in finished} == {("infra", None)}


def test_a_stop_during_the_update(make_run: MakeRun) -> None:
    run = make_run(optimizer={"micro_batch_tokens": 1}, checkpoint={"every_steps": 0})
    run.start()
    run.until(lambda e: isinstance(e, PhaseEnded) and (e.step, e.phase) == (2, "rollout"))
    run.signal(signal.SIGTERM)
    assert_stopped(run, at_step=1)
    run.start()
    assert run.wait(START_TIMEOUT_S) == 0, run.output()
    assert_gapless(run.events())
    assert [e.from_step for e in of(Resumed, run.events())] == [1]
    assert [e.step for e in of(StepEnded, run.events())] == [1, 2]
    assert [e.step for e in of(CheckpointSaved, run.events())] == [1, 2]


def test_a_stop_while_the_next_steps_rollouts_go_on_during_an_update(make_run: MakeRun) -> None:
    run = make_run(
        num_steps=4,
        rollout={"max_staleness": 1, "max_turns": 4},
        optimizer={"micro_batch_tokens": 1},
        checkpoint={"every_steps": 0},
    )
    run.start()
    run.until(lambda e: isinstance(e, PhaseEnded) and (e.step, e.phase) == (2, "rollout"))
    run.signal(signal.SIGTERM)
    assert_stopped(run, at_step=1)
    ahead = [e.step for e in in_order(RolloutStarted, StepEnded, run.events())]
    assert ahead.index(2) < max(i for i, step in enumerate(ahead) if step == 1)
    before = len(run.events())
    run.start()
    assert run.wait(START_TIMEOUT_S) == 0, run.output()
    events = run.events()
    assert_gapless(events)
    resumed = events[before:]
    assert {e.step for e in of(RolloutStarted, resumed)} == {2, 3, 4}
    assert [e.step for e in of(StepEnded, resumed)] == [2, 3, 4]
    oldest = [e.metrics["staleness/max"][0] for e in of(StepEnded, events)]
    assert oldest == [0, 0, 1, 1]
    scored = {str(r) for e in of(GroupScored, resumed) for r in e.rollouts}
    assert len(scored) == 3 * 2 * 2
    assert run.left_behind() == []


def in_order(one: type, other: type, events: list[AnyEvent]) -> list[Any]:
    return [event for event in events if isinstance(event, one | other)]


def test_a_stop_during_an_evaluation(make_run: MakeRun) -> None:
    run = make_run(
        num_steps=1,
        rollout={"max_turns": 8, "max_response_tokens": 400},
        evaluation={"every_steps": 1, "limit": 2, "group_size": 4, "untrained": False},
        checkpoint={"every_steps": 0},
    )
    run.start()
    run.until(lambda e: isinstance(e, RolloutStarted) and e.purpose == "evaluation")
    run.signal(signal.SIGTERM)
    assert_stopped(run, at_step=1)
    for _ in range(2):  # made after resuming, and once
        run.start()
        assert run.wait(START_TIMEOUT_S) == 0, run.output()
        assert [(e.step, e.policy_version) for e in of(Evaluated, run.events())] == [(1, 1)]


def test_an_untrained_evaluation_that_a_stop_cut_is_made_after_resuming(make_run: MakeRun) -> None:
    run = make_run(
        rollout={"max_turns": 8, "max_response_tokens": 400},
        evaluation={"every_steps": 2, "limit": 1, "group_size": 2},
    )
    run.start()
    run.until(lambda e: isinstance(e, RolloutStarted) and e.purpose == "evaluation")
    run.signal(signal.SIGTERM)
    assert_stopped(run, at_step=1)
    run.start()
    assert run.wait(START_TIMEOUT_S) == 0, run.output()
    evaluations = of(Evaluated, run.events())
    assert [(e.step, e.policy_version) for e in evaluations] == [(0, 0), (2, 2)]
    again = [
        e for e in of(RolloutStarted, run.events()) if (e.purpose, e.step) == ("evaluation", 0)
    ]
    assert {e.policy_version for e in again} == {0}


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("vllm"), reason="vllm is not installed")
def test_vllm_dies_with_a_killed_trainer_and_is_stopped_with_a_stopped_one(
    make_run: MakeRun,
) -> None:
    segments = orphaned_segments()
    run = make_run(
        num_steps=50, engine={"kind": "vllm"}, rollout={"max_turns": 50, "max_response_tokens": 900}
    )
    run.start()
    run.until(lambda e: isinstance(e, RolloutStarted) and e.step == 2)
    assert any("EngineCore" in line for line in run.processes())
    run.signal(signal.SIGKILL)
    run.wait(EXIT_TIMEOUT_S)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while run.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert run.processes() == []
    assert orphaned_segments() <= segments
    run.start()
    run.until(lambda e: isinstance(e, Resumed))
    resumed = of(Resumed, run.events())[-1]
    run.until(lambda e: isinstance(e, RolloutStarted) and e.seq > resumed.seq)
    run.signal(signal.SIGTERM)
    assert_stopped(run, at_step=1)
    assert orphaned_segments() <= segments


def test_a_second_trainer_leaves_the_folder_alone(make_run: MakeRun) -> None:
    run = make_run()
    with held_alone(run.folder, LOCK_FILE, "trains"):
        run.start()
        assert run.wait(EXIT_TIMEOUT_S) == 2
    assert "another process trains here; let it end, or stop it" in run.output()
    assert run.events() == []


def test_a_recipes_name_is_no_folder_to_train_in() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "trainer", "starter-cpu"], cwd=ROOT, capture_output=True, text=True
    )
    assert (ran.returncode, "starter-cpu/config.toml: not found" in ran.stderr) == (2, True)
    assert not (ROOT / "starter-cpu").exists()


def test_an_impossible_configuration_exits_with_the_field(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text('recipe = "x"\nnum_steps = 1\n[rollout]\ngroup_size = 1\n')
    ran = subprocess.run(
        [sys.executable, "-m", "trainer", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("rollout.group_size: 1: needs at least 2")
