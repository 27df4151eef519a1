"""Two ranks over gloo, with FSDP2, as torchrun starts them: the gradients of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trainer.gradients import apart
from tests.trainer.rank_gradients import CASES, Case, gradients

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def of_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, dict[str, Tensor]]:
    path = tmp_path_factory.mktemp("ranks") / "gradients.pt"
    ran = subprocess.run(
        [*TORCHRUN, "-m", "tests.trainer.rank_gradients", str(path)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ran.returncode == 0, ran.stderr
    return {Case(*case): found for case, found in torch.load(path).items()}


@pytest.fixture(scope="module")
def of_each_rollout_alone() -> dict[str, dict[str, Tensor]]:
    """One process, nothing packed, shared, recomputed or compiled."""
    return {family: gradients(Case(family, False, 1)) for family in ("llama", "qwen3")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_two_ranks_have_the_gradients_of_one(
    case: Case,
    of_two_ranks: dict[Case, dict[str, Tensor]],
    of_each_rollout_alone: dict[str, dict[str, Tensor]],
) -> None:
    expected = of_each_rollout_alone[case.family]
    if case.old_logprobs == "recomputed":
        expected = gradients(case)
    assert of_two_ranks[case].keys() == expected.keys()
    for parameter, gradient in expected.items():
        assert gradient.abs().max() > 0
        assert apart(of_two_ranks[case][parameter], gradient) < 1e-5, parameter
