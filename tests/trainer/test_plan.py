"""The dry run: counts by hand, what a machine lacks, and the command itself."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainer.config import TrainConfig
from trainer.model.footprint import GIB, disk_use, model_shape
from trainer.nodes.machine import Machine, this_machine
from trainer.plan import Tasks, count_tasks, count_work, lacking, plan_memory, print_plan
from trainer.recipes import load_recipe

CPU = Machine(
    cores=2,
    memory_bytes=16 * GIB,
    gpu_memory_bytes=(),
    disk_free_bytes=100 * GIB,
    has_vllm=True,
    sandbox_backends=("bubblewrap",),
)


def test_work_by_hand() -> None:
    config = load_recipe(
        "starter-cpu",
        {
            "num_steps": 10,
            "tasks": {"tasks_per_step": 3},
            "rollout": {"group_size": 4, "max_response_tokens": 500},
            "evaluation": {"every_steps": 4, "group_size": 2},
        },
    )
    work = count_work(config, Tasks(train=16, held_out=5))
    assert work.rollouts_per_step == 12
    assert work.tokens_per_step == 6000
    assert work.num_evaluations == 4  # untrained, after 4, after 8, after the last
    assert work.rollouts_per_evaluation == 10
    assert work.num_rollouts == 10 * 12 + 4 * 10


@pytest.mark.parametrize(("untrained", "made"), [(True, 4), (False, 3)])
def test_the_untrained_policy_need_not_be_evaluated(untrained: bool, made: int) -> None:
    changes = {"num_steps": 10, "evaluation": {"every_steps": 4, "untrained": untrained}}
    assert (
        count_work(load_recipe("starter-cpu", changes), Tasks(train=16, held_out=5)).num_evaluations
        == made
    )


def test_no_evaluation_and_no_taskset_are_counted_as_such() -> None:
    config = load_recipe("starter-cpu", {"num_steps": 16, "evaluation": {"every_steps": 0}})
    work = count_work(config, Tasks(train=None, held_out=None))
    assert work.num_evaluations == 0
    assert work.rollouts_per_evaluation is None
    assert work.num_rollouts == 16 * 64


def test_tasks_are_those_of_the_run() -> None:
    changes = {"tasks": {"only": [], "limit": 7}, "evaluation": {"limit": 3}}
    assert count_tasks(load_recipe("starter-cpu", changes)) == Tasks(train=7, held_out=3)
    assert count_tasks(load_recipe("deepswe-32b-64gpu")) == Tasks(train=None, held_out=None)


def test_a_machine_with_everything_lacks_nothing(tmp_path: Path) -> None:
    assert _lacking(_starter(tmp_path), CPU) == []


@pytest.mark.parametrize(
    ("has", "says"),
    [
        ({"has_vllm": False}, "vllm: make setup installs it"),
        ({"sandbox_backends": ()}, "sandbox backend bubblewrap (there are: none)"),
        ({"memory_bytes": 4 * GIB}, "memory: 4.0 GiB of 11.0 GiB"),
        ({"disk_free_bytes": 1 * GIB}, "free disk space: 1.0 GiB of 4.5 GiB"),
    ],
)
def test_what_a_machine_lacks_is_named(tmp_path: Path, has: dict[str, Any], says: str) -> None:
    (missing,) = _lacking(_starter(tmp_path), dataclasses.replace(CPU, **has))
    assert missing.startswith(says)


def test_a_model_that_is_not_here_is_named() -> None:
    config = load_recipe("starter-cpu", {"model": {"path": "Qwen/Qwen3-0.6B"}})
    (missing,) = [m for m in _lacking(config, CPU) if m.startswith("model")]
    assert missing.startswith("model Qwen/Qwen3-0.6B: no such folder")
    (unknown,) = _lacking(load_recipe("starter-cpu", {"model": {"path": "a/b"}}), CPU)
    assert unknown.startswith("the shape of model a/b")


def test_the_recipe_for_one_gpu_fits_the_gpu_that_it_names() -> None:
    config = load_recipe("qwen3-0.6b-1gpu")
    machine = dataclasses.replace(CPU, memory_bytes=32 * GIB, gpu_memory_bytes=(24 * GIB,))
    assert [m.partition(":")[0] for m in _lacking(config, machine)] == ["model Qwen/Qwen3-0.6B"]


def test_the_recipe_for_eight_gpus_fits_them_beside_its_engine_and_training_all_weights_would_not() -> (
    None
):
    eight = dataclasses.replace(CPU, memory_bytes=512 * GIB, gpu_memory_bytes=(80 * GIB,) * 8)

    def lacks_room(rank: int) -> bool:
        config = load_recipe("qwen3-14b-8gpu", {"lora": {"rank": rank}})
        return any(m.startswith("room on a GPU") for m in _lacking(config, eight))

    assert (lacks_room(32), lacks_room(0)) == (False, True)


def test_the_64_gpu_recipe_says_what_is_missing_here() -> None:
    missing = "\n".join(_lacking(load_recipe("deepswe-32b-64gpu"), CPU))
    for what in (
        "GPUs: 0 of 8 on each of 8 node(s)",
        "sandbox backend kubernetes",
        "taskset r2e-gym-subset: not bundled",
        "engine replicas on other nodes: this version starts them on the first",
        "memory: 16.0 GiB of 1,024.0 GiB",
    ):
        assert what in missing


def test_this_machine_is_looked_at(tmp_path: Path) -> None:
    machine = this_machine(tmp_path)
    assert machine.cores == os.cpu_count()
    assert machine.memory_bytes > GIB
    assert machine.disk_free_bytes > 0


def test_an_adapter_that_no_machine_could_train_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    config = load_recipe("qwen3-0.6b-1gpu", {"lora": {"rank": 1025}})
    assert print_plan(config) == 2
    assert "lora.rank: 1025: q_proj itself has rank 1024 at most" in capsys.readouterr().err


def test_the_command_prints_the_plan_and_tells_by_its_exit_code() -> None:
    command = [sys.executable, "-m", "trainer", "deepswe-32b-64gpu", "--dry-run"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 1, ran.stderr
    assert "64 groups of 8 = 512 rollouts, 50 turns at most" in ran.stdout
    assert "32,762,123,264 parameters" in ran.stdout
    assert ran.stdout.endswith("This machine cannot run it.\n")


def _starter(folder: Path) -> TrainConfig:
    """The starter's recipe; its model's folder is `folder`."""
    shape = {
        "num_hidden_layers": 30,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(shape))
    return load_recipe("starter-cpu", {"model": {"path": str(folder)}})


def _lacking(config: TrainConfig, machine: Machine) -> list[str]:
    shape = model_shape(config.model.path)
    tasks = count_tasks(config)
    work = count_work(config, tasks)
    memory = plan_memory(shape, config) if shape else None
    disk = disk_use(shape, config, num_rollouts=work.num_rollouts) if shape else None
    return lacking(config, machine, tasks, memory, disk)
