"""Two ranks over gloo, with FSDP2, as torchrun starts them: the gradients, steps and checkpoints of one process.

Then whole runs: `python -m trainer` launches its ranks, and none outlives another.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import tomli_w
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.trainer.conftest import MakeConfig
from tests.trainer.gradients import apart
from tests.trainer.random_models import make_model
from tests.trainer.ranks import CASES, LORA, Case, gradients, next_step
from tests.trainer.running_trainer import (
    EXIT_TIMEOUT_S,
    MARK,
    ROOT,
    START_TIMEOUT_S,
    STOP_TIMEOUT_S,
    Run,
    assert_gapless,
    assert_stopped,
    last,
    of,
)
from trainer.config import CONFIG_FILE
from trainer.events import CheckpointSaved, Finished, Resumed, RolloutStarted, StepEnded
from trainer.grpo.deal import cost, deal, idle_row
from trainer.model.lora import is_adapter

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks left after one process had saved step 1."""
    folder = tmp_path_factory.mktemp("ranks")
    for run in (folder, folder / LORA):
        make_model("llama", "sdpa").save_pretrained(run / "model")
        next_step(run)
    ran = subprocess.run(
        [*TORCHRUN, "-m", "tests.trainer.ranks", str(folder)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_two_ranks_have_the_gradients_of_one(folder: Path, family: str) -> None:
    """However the batch is cut, with shared prompts or not, with layers recomputed or compiled."""
    found = {Case(*case): g for case, g in torch.load(folder / "gradients.pt").items()}
    assert found.keys() == set(CASES)
    alone_each = gradients(Case(family, share_prefix=False, micro_batch_tokens=1))
    for case in [case for case in CASES if (case.family, case.dtype) == (family, "float32")]:
        special = case.old_logprobs == "recomputed" or case.lora_rank
        expected = gradients(case) if special else alone_each
        assert found[case].keys() == expected.keys()
        for parameter, gradient in expected.items():
            if case.lora_rank and not is_adapter(parameter):
                assert not found[case][parameter].any()
                continue
            assert gradient.abs().max() > 0
            assert apart(found[case][parameter], gradient) < 1e-5, (case, parameter)


def test_two_ranks_round_to_bfloat16_about_as_well_as_one(folder: Path) -> None:
    """One process computes under autocast, ranks with weights that are bfloat16 on their way: not the same numbers."""
    (case,) = [case for case in CASES if case.dtype == "bfloat16"]
    exact = gradients(case._replace(dtype="float32"))
    one, two = gradients(case), torch.load(folder / "gradients.pt")[tuple(case)]
    assert 0 < error(two, exact) < 1.5 * error(one, exact)


def error(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """Of the whole gradient, relative to its norm."""
    squares = sum(float((found[name] - tensor).square().sum()) for name, tensor in exact.items())
    return (squares / sum(float(tensor.square().sum()) for tensor in exact.values())) ** 0.5


def test_a_step_from_a_checkpoint_of_one_process_is_the_same_on_two_ranks(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "model", tmp_path / "model")
    shutil.copytree(folder / "checkpoints" / "step_1", tmp_path / "checkpoints" / "step_1")
    next_step(tmp_path)
    expected, found = (
        load_file(where / "checkpoints" / "step_2" / "model" / "model.safetensors")
        for where in (tmp_path, folder)
    )
    before = load_file(folder / "checkpoints" / "step_1" / "model" / "model.safetensors")
    assert expected.keys() == found.keys() == before.keys()
    for name, weight in expected.items():
        assert (weight - before[name]).abs().max() > 1e-3
        torch.testing.assert_close(found[name], weight, rtol=1e-4, atol=1e-5)


def test_a_step_with_lora_is_the_same_on_two_ranks(folder: Path, tmp_path: Path) -> None:
    """From a checkpoint of one process: adapter and merged weights of the next one."""
    alone = tmp_path / LORA
    shutil.copytree(folder / LORA / "model", alone / "model")
    shutil.copytree(folder / LORA / "checkpoints/step_1", alone / "checkpoints/step_1")
    next_step(alone)
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        before, expected, found = (
            load_file(run / "checkpoints" / step / name)
            for run, step in ((alone, "step_1"), (alone, "step_2"), (folder / LORA, "step_2"))
        )
        assert before.keys() == expected.keys() == found.keys()
        for key, weight in expected.items():
            assert key.endswith("_proj.weight") <= (not torch.equal(weight, before[key]))
            torch.testing.assert_close(found[key], weight, rtol=1e-4, atol=1e-5)


def test_one_process_goes_on_from_a_checkpoint_of_two_ranks(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "model", tmp_path / "model")
    shutil.copytree(folder / "checkpoints" / "step_2", tmp_path / "checkpoints" / "step_2")
    theirs, ours = (
        torch.load(where / "checkpoints" / f"step_{step}" / "optimizer.pt")
        for where, step in ((folder, 1), (folder, 2))
    )
    assert {i: {k: v.shape for k, v in s.items()} for i, s in ours["state"].items()} == {
        i: {k: v.shape for k, v in s.items()} for i, s in theirs["state"].items()
    }
    next_step(tmp_path)
    assert (tmp_path / "checkpoints" / "step_3" / "state.json").is_file()


def test_the_lead_hears_that_another_rank_was_asked_to_stop(folder: Path) -> None:
    assert (folder / "stopped.txt").read_text() == "True"


def test_the_error_of_a_rank_ends_the_others_with_its_words(folder: Path) -> None:
    told = (folder / "failure.txt").read_text()
    assert told.startswith("rank 1 on ")
    assert told.endswith("TypeError: 'dance': not an order that a rank can follow")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_leaves_has_no_thread_in_the_store(folder: Path, rank: int) -> None:
    """One that is still in the store's C++ when the interpreter ends aborts the process."""
    assert not {"ranks", "signals"} & set((folder / f"threads_{rank}.txt").read_text().split())


def test_rows_are_dealt_alike_in_cost_and_number() -> None:
    rows = [idle_row() for _ in range(5)]
    lengths = [70, 10, 40, 50, 20]
    rows = [
        type(row)(**{**vars(row), "input_ids": torch.zeros(n, dtype=torch.int64)})
        for row, n in zip(rows, lengths, strict=True)
    ]
    dealt = deal(rows, 2, hidden_size=64)
    assert [[len(row.input_ids) for row in share] for share in dealt] == [[70, 40, 10], [50, 20, 1]]
    assert deal(rows, 1, hidden_size=64) == [rows]


def test_attention_counts_in_a_rows_cost() -> None:
    row = idle_row()
    assert cost(row, hidden_size=1) == 1 + 1 / 6


@pytest.fixture
def run(run_config: MakeConfig, tmp_path: Path) -> Iterator[Run]:
    """Three steps of the tiny model on two ranks."""
    config = run_config(
        num_steps=3,
        hardware={"ranks_per_node": 2},
        rollout={"max_turn_tokens": 16, "max_response_tokens": 300},
        algorithm={"entropy_coef": 0.01, "compact_filtering": []},
    )
    (tmp_path / CONFIG_FILE).write_text(tomli_w.dumps(config.model_dump(mode="json")))
    run = Run(tmp_path)
    yield run
    run.end()


def test_two_ranks_are_killed_and_stopped_and_one_process_finishes(run: Run) -> None:
    """A killed rank ends the launcher by a signal too, so that the studio resumes the run; a killed launcher ends the ranks."""
    run.start()
    run.until(lambda e: isinstance(e, RolloutStarted) and e.step == 2)
    (second_rank,) = processes_with(run, "RANK=1")
    os.kill(second_rank, signal.SIGKILL)
    assert run.wait(EXIT_TIMEOUT_S) == -signal.SIGKILL, run.output()
    wait_until_gone(run)
    assert not of(Finished, run.events())
    assert [e.step for e in of(CheckpointSaved, run.events())] == [1]

    run.start()
    run.until(lambda e: isinstance(e, Resumed))
    run.signal(signal.SIGKILL)
    run.wait(EXIT_TIMEOUT_S)
    wait_until_gone(run)

    run.start()
    run.until(lambda e: isinstance(e, Resumed) and e.attempt == 3)
    resumed = of(Resumed, run.events())[-1]
    run.until(lambda e: isinstance(e, RolloutStarted) and e.seq > resumed.seq)
    run.signal(signal.SIGTERM)
    assert_stopped(run, at_step=1)

    path = run.folder / CONFIG_FILE
    path.write_text(path.read_text().replace("ranks_per_node = 2", "ranks_per_node = 1"))
    run.start()
    assert run.wait(START_TIMEOUT_S) == 0, run.output()
    events = run.events()
    assert_gapless(events)
    assert [e.from_step for e in of(Resumed, events)] == [1, 1, 1]
    assert [(e.step, e.updated) for e in of(StepEnded, events)] == [(1, True), (2, True), (3, True)]
    assert last(events).status == "finished"
    assert run.left_behind() == []


def test_a_node_without_the_model_ends_the_run_on_all_nodes_with_its_error(
    run_config: MakeConfig, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        rendezvous = f"127.0.0.1:{probe.getsockname()[1]}"
    nodes = []
    for number in range(2):
        folder = tmp_path / f"node-{number}"
        folder.mkdir()
        model = {"path": str(tmp_path / "nothing")} if number else {}
        config = run_config(model=model, hardware={"nodes": 2})
        (folder / CONFIG_FILE).write_text(tomli_w.dumps(config.model_dump(mode="json")))
        nodes.append(Run(folder))
        nodes[-1].start("--node", str(number), "--rendezvous", rendezvous)
    assert [node.wait(START_TIMEOUT_S) for node in nodes] == [1, 1], nodes[0].output()
    finished = last(nodes[0].events())
    assert finished.status == "failed"
    assert finished.reason.startswith("RankFailed: rank 1 on ")
    assert str(tmp_path / "nothing") in finished.reason
    assert not nodes[1].events()


def processes_with(run: Run, variable: str) -> list[int]:
    """Ids of the run's processes that have this in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (folder / "environ").read_bytes().split(b"\0")
            if f"{MARK}={run.mark}".encode() in environment and variable.encode() in environment:
                found.append(int(folder.name))
    return found


def wait_until_gone(run: Run) -> None:
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while run.processes() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run.processes() == []
