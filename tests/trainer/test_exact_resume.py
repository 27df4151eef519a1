"""A trainer killed at any line between two checkpoints ends with the weights of one that never was, bit for bit.

The rollouts are recorded, so that the engine's arithmetic is not in the comparison; sandboxes, gradings and updates are real.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.trainer.conftest import MakeConfig
from tests.trainer.running_trainer import ROOT, Run, assert_gapless, of, write_config
from trainer.config import CONFIG_FILE
from trainer.events import Resumed, StepEnded

EVERY = int(os.environ.get("DIE_AT_EVERY", "25"))
"""Lines between two deaths; 1 tries them all, which takes minutes."""
FIRST, LAST = 2, 4
TIMEOUT_S = 900


def test_killed_anywhere_between_two_checkpoints_a_run_ends_with_the_same_bits(
    run_config: MakeConfig, tmp_path: Path
) -> None:
    config = run_config(
        num_steps=LAST,
        tasks={"limit": 5, "rest_after_visits": 1, "max_extra_groups": 1},
        rollout={
            "max_turn_tokens": 16,
            "max_response_tokens": 300,
            "max_staleness": 1,
        },
        algorithm={"entropy_coef": 0.01, "compact_filtering": []},
        checkpoint={"every_steps": 2},
    )
    record = tmp_path / "record.jsonl"
    whole = write_config(config, tmp_path / "whole")
    drive("record", whole, record)
    cut = tmp_path / "cut"
    (cut / "checkpoints").mkdir(parents=True)
    shutil.copy(whole / CONFIG_FILE, cut)
    shutil.copytree(whole / f"checkpoints/step_{FIRST}", cut / f"checkpoints/step_{FIRST}")

    deaths = drive("die", cut, record, str(EVERY)).split()

    assert len(deaths) >= 150 // EVERY, deaths
    events = Run(cut).events()
    assert_gapless(events)
    assert len(of(Resumed, events)) >= len(deaths) // 2
    assert of(Resumed, events)[0].from_step == FIRST  # a checkpoint that came without events
    assert [e.step for e in of(StepEnded, events)][-2:] == [LAST - 1, LAST]
    assert_same_checkpoint(whole / f"checkpoints/step_{LAST}", cut / f"checkpoints/step_{LAST}")


def drive(*arguments: object) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.trainer.dies_anywhere", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def assert_same_checkpoint(one: Path, other: Path) -> None:
    assert (one / "state.json").read_text() == (other / "state.json").read_text()
    assert torch.equal(torch.load(one / "rng.pt"), torch.load(other / "rng.pt"))
    ours, theirs = (load_file(folder / "model/model.safetensors") for folder in (one, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    ours, theirs = (torch.load(folder / "optimizer.pt")["state"] for folder in (one, other))
    assert ours.keys() == theirs.keys()
    for index, state in ours.items():
        assert all(torch.equal(state[name], theirs[index][name]) for name in state)
