"""A tiny real model, and configurations of runs small enough for tests, on it and on two starter tasks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.config import TrainConfig, parse_config
from trainer.recipes import merge

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two cores are shared with sandboxes and other processes, and sums come out the same every time."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers folder: SmolLM2's tokenizer and template, two random layers."""
    from tests.trainer.tiny_model import make_tiny_model

    folder = tmp_path_factory.mktemp("tiny-model")
    make_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def run_config(tiny_model: Path) -> MakeConfig:
    """Makes a whole run's configuration; sections given as keywords are laid over it."""

    def make(**sections: Any) -> TrainConfig:
        base: dict[str, Any] = {
            "recipe": "test",
            "num_steps": 2,
            "model": {"path": str(tiny_model), "dtype": "float32"},
            "tasks": {"limit": 2, "tasks_per_step": 2, "shuffle": False},
            "rollout": {
                "group_size": 2,
                "max_turns": 2,
                "max_turn_tokens": 120,
                "max_prompt_tokens": 1000,
                "max_response_tokens": 600,
                "timeout_s": 60,
                "concurrency": 8,
                "prompt": "starter",
            },
            "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.0},
            "engine": {"kind": "transformers", "max_model_len": 2048, "kv_cache_gib": 1.0},
            "sandbox": {
                "command_timeout_s": 10,
                "grading_timeout_s": 30,
                "max_observation_chars": 400,
            },
            "checkpoint": {"every_steps": 1},
            # as told, since measuring it takes each process half a second
            "hardware": {"peak_tflops": 1},
        }
        return parse_config(merge(base, sections))

    return make
