"""`python -m trainer.check`, on two ranks of a CPU with the tiny model, and what it calls a fault."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.trainer.conftest import MakeConfig
from tests.trainer.running_trainer import ROOT
from trainer.check import Report, Round

ROUND = Round(kl=1e-4, gap=0.01, sampled_per_s=100.0, trained_per_s=100.0, updated=True)
WELL = Report(
    load_s=1.0,
    rounds=[ROUND, dataclasses.replace(ROUND, kl=0.5, gap=0.4), ROUND],
    sync_s=1.0,
    peak_gib={},
)


def test_the_command_measures_and_ends_well(run_config: MakeConfig, tmp_path: Path) -> None:
    config = run_config(
        rollout={"max_turn_tokens": 16, "max_prompt_tokens": 200, "concurrency": 4},
        hardware={"ranks_per_node": 2},
    )
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(config.model_dump(mode="json")))
    ran = subprocess.run(
        [sys.executable, "-m", "trainer.check", str(path)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "test: 2 rank(s) on a CPU, engine transformers x 1" in ran.stdout
    assert ran.stdout.endswith("All is well.\n")
    for measured in ("sampled ", "trained ", "hand-over of weights", "memory of the lead"):
        assert measured in ran.stdout


@pytest.mark.parametrize(
    ("number", "changes", "says"),
    [
        (0, {"kl": 0.02}, "disagree at the start: KL 0.02 nats a token, limit 0.01"),
        (2, {"kl": float("nan")}, "disagree after the hand-over: KL nan"),
        (2, {"gap": 0.4}, "new weights do not show in the engine"),
        (1, {"updated": False}, "an update was skipped"),
    ],
)
def test_each_fault_is_told(number: int, changes: dict[str, Any], says: str) -> None:
    assert WELL.faults == []
    rounds = list(WELL.rounds)
    rounds[number] = dataclasses.replace(rounds[number], **changes)
    (fault,) = dataclasses.replace(WELL, rounds=rounds).faults
    assert says in fault
