"""What an engine or a disk does to a run, with the trainer as a process of its own and `faulty_engine` in vLLM's place.

That the real vLLM is started again after a sudden death is held by `test_engines`.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.trainer.conftest import MakeConfig
from tests.trainer.faulty_run import FAULTS
from tests.trainer.running_trainer import (
    START_TIMEOUT_S,
    Run,
    assert_gapless,
    last,
    of,
    write_config,
)
from trainer.config import CheckpointConfig, TrainConfig
from trainer.events import (
    CheckpointSaved,
    LogLine,
    RolloutFinished,
    RolloutStarted,
    StepEnded,
)
from trainer.training.checkpoint import list_steps

MODULE = "tests.trainer.faulty_run"


@pytest.fixture
def config(run_config: MakeConfig) -> TrainConfig:
    return run_config(
        num_steps=8,
        rollout={"max_turn_tokens": 16, "max_response_tokens": 300, "timeout_s": 20},
        algorithm={"entropy_coef": 0.01, "compact_filtering": []},
        engine={"kind": "vllm", "request_timeout_s": 2, "startup_timeout_s": 60},
        checkpoint={"every_steps": 0},
    )


@pytest.fixture
def run(config: TrainConfig, tmp_path: Path) -> Iterator[Run]:
    started = Run(write_config(config, tmp_path / uuid4().hex), MODULE)
    yield started
    started.end()


def test_a_run_survives_every_fault_of_its_engine(run: Run) -> None:
    """One fault a step; the step after each is whole again."""
    (run.folder / FAULTS).mkdir()
    (run.folder / FAULTS / "crash").touch()
    run.start()
    for step, fault in [(1, ""), (2, "hang"), (3, ""), (4, "memory"), (5, "torn"), (6, "nan")]:
        run.until(lambda e, step=step: isinstance(e, StepEnded) and e.step == step)
        if fault:
            (run.folder / FAULTS / fault).touch()
    assert run.wait(START_TIMEOUT_S) == 0, run.output()
    events = run.events()
    assert_gapless(events)
    assert (last(events).status, last(events).step) == ("finished", 8)

    lost = {e.step for e in of(RolloutFinished, events) if e.outcome == "infra"}
    assert (
        len(lost) == 3
    )  # crash, hang and memory; what is lost is never taken for a rollout out of time
    assert {e.termination_reason for e in of(RolloutFinished, events)} == {"infra", "max_turns"}
    steps = of(StepEnded, events)
    (skipped,) = (e for e in steps if e.metrics.get("update/skipped") == (1.0, 1.0))
    assert any(e.text.startswith(f"step {skipped.step}: loss nan") for e in of(LogLine, events))
    assert all(e.updated for e in steps if e.step not in lost | {skipped.step})
    versions = {e.step: e.policy_version for e in of(RolloutStarted, events)}
    assert versions == {e.step + 1: e.policy_version for e in steps[:-1]} | {1: 0}
    assert run.output().count("starting it again") == 4  # and once with half of its weights
    assert run.left_behind() == []


@pytest.mark.parametrize("max_staleness", [0, 1])
def test_an_engine_that_does_not_come_back_costs_no_step_and_its_reason_is_told(
    config: TrainConfig, tmp_path: Path, max_staleness: int
) -> None:
    ahead = config.rollout.model_copy(update={"max_staleness": max_staleness})
    folder = write_config(config.model_copy(update={"rollout": ahead}), tmp_path / "run")
    run = Run(folder, MODULE)
    run.start()
    run.until(lambda e: isinstance(e, StepEnded) and e.step == 2)
    (folder / FAULTS / "gone").touch()
    (folder / FAULTS / "crash").touch()
    assert run.wait(START_TIMEOUT_S) == 1, run.output()
    end, done = last(run.events()), [e.step for e in of(StepEnded, run.events())]
    assert (end.status, end.step) == ("failed", done[-1])
    assert "vLLM exited with 1 while starting" in end.reason
    assert "no such device" in end.reason
    assert list_steps(folder) == [done[-1]]
    (folder / FAULTS / "gone").unlink()
    run.start()
    assert run.wait(START_TIMEOUT_S) == 0, run.output()
    assert [e.step for e in of(StepEnded, run.events())] == list(range(1, 9))
    assert run.left_behind() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_fills_up_costs_no_checkpoint_and_the_run_goes_on_with_more_room(
    config: TrainConfig, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=70m", "tmpfs", disk], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs may be mounted here: {mounted.stderr.strip()}")
    try:
        saves = {"num_steps": 2, "checkpoint": CheckpointConfig(every_steps=1)}
        run = Run(write_config(config.model_copy(update=saves), disk / "run"), MODULE)
        run.start()
        assert run.wait(START_TIMEOUT_S) == 1, run.output()
        assert last(run.events()).status == "failed"
        assert "step_2: not saved" in last(run.events()).reason
        assert "free disk space" in last(run.events()).reason
        assert [e.step for e in of(CheckpointSaved, run.events())] == list_steps(run.folder) == [1]
        assert not list(disk.glob("run/checkpoints/.step_*"))
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        run.start()
        assert run.wait(START_TIMEOUT_S) == 0, run.output()
        assert_gapless(run.events())
        assert list_steps(run.folder) == [1, 2]
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
