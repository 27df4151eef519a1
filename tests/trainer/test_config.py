"""Configurations: what is wrong fails with the field's name, the value and the remedy."""

from pathlib import Path
from typing import Any

import pytest

from trainer.config import ConfigError, TrainConfig, load_config, parse_config
from trainer.recipes import load_recipe, recipe_names
from trainer.train import check_supported

GPU = {"gpus_per_node": 8}


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_a_configuration_under_its_own_name(name: str) -> None:
    config = load_recipe(name)
    assert config.recipe == name
    assert parse_config(config.model_dump(mode="json")) == config


def test_recipes_come_smallest_hardware_first() -> None:
    assert recipe_names() == [
        "starter-cpu",
        "qwen3-0.6b-1gpu",
        "qwen3-14b-8gpu",
        "deepswe-32b-64gpu",
    ]


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="recipe: 'nope': not known; one of starter-cpu"):
        load_recipe("nope")


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"nope": 1}, "nope", "not a field; known here: recipe, "),
        ({"rollout": {"size": 1}}, "rollout.size", "not a field; known here: group_size, "),
        ({"num_steps": 0}, "num_steps", "0: input should be greater than 0"),
        ({"num_steps": "many"}, "num_steps", "'many': input should be a valid integer"),
        ({"engine": {"kind": "sglang"}}, "engine.kind", "'sglang': input should be 'vllm' or"),
        ({"optimizer": {"learning_rate": float("inf")}}, "optimizer.learning_rate", "inf: input"),
        ({"optimizer": {"learning_rate": float("nan")}}, "optimizer.learning_rate", "nan: input"),
        (
            {"rollout": {"temperature": 0}},
            "rollout.temperature",
            "0: input should be greater than 0",
        ),
        (
            {"rollout": {"group_size": 1}},
            "rollout.group_size",
            "1: needs at least 2 for a leave-one",
        ),
        ({"rollout": {"max_turn_tokens": 900}}, "rollout.max_turn_tokens", "900: more than"),
        ({"engine": {"max_model_len": 1000}}, "engine.max_model_len", "1000: less than"),
        ({"algorithm": {"clip_ratio_high": 0.1}}, "algorithm.clip_ratio_high", "0.1: less than"),
        ({"lora": {"rank": -1}}, "lora.rank", "-1: input should be greater than or equal to 0"),
        ({"lora": {"rank": 8, "alpha": 0}}, "lora.alpha", "0: input should be greater than 0"),
        ({"lora": {"rank": 8, "targets": []}}, "lora.targets", "[]: leaves nothing to train"),
        (
            {"lora": {"targets": ["lm_head"]}},
            "lora.targets.0",
            "'lm_head': input should be 'q_proj'",
        ),
        ({"lora": {"targets": ["q_proj", "q_proj"]}}, "lora.targets", "names one twice"),
        (
            {"algorithm": {"importance_cap": 0.5}},
            "algorithm.importance_cap",
            "0.5: input should be",
        ),
        (
            {"algorithm": {"importance_correction": "tis"}},
            "algorithm.importance_correction",
            'tis: corrects nothing while the sampler is the old policy; set old_logprobs = "recomputed"',
        ),
        (
            {"rollout": {"max_staleness": 1}, "algorithm": {"old_logprobs": "recomputed"}},
            "rollout.max_staleness",
            "1: nothing corrects for the age of the tokens",
        ),
        (
            {"algorithm": {"compact_filtering": ["infra"]}},
            "algorithm.compact_filtering.0",
            "'infra'",
        ),
        (
            {"algorithm": {"compact_filtering": ["timeout", "timeout"]}},
            "algorithm.compact_filtering",
            "names one twice",
        ),
        ({"tasks": {"difficulties": ["easy", "easy"]}}, "tasks.difficulties", "names one twice"),
        (
            {"engine": {"weight_sync": "nccl"}},
            "engine.weight_sync",
            "nccl: needs GPUs; choose files",
        ),
        ({"engine": {"replicas": 2}}, "engine.replicas", "a CPU recipe runs one engine process"),
        (
            {"engine": {"replicas": 3, "tensor_parallel": 4}, "hardware": GPU},
            "engine.replicas",
            "3 x tensor_parallel=4: more than the 8 GPUs",
        ),
        (
            {"engine": {"kind": "transformers", "replicas": 2}, "hardware": GPU},
            "engine.kind",
            "transformers: generates in one process",
        ),
        (
            {"engine": {"weight_sync": "nccl"}, "hardware": GPU},
            "engine.weight_sync",
            "nccl: cannot link two processes on one GPU, and 8 ranks beside 1 GPUs of engines are more than the first node's 8",
        ),
        (
            {
                "engine": {"weight_sync": "nccl", "replicas": 2, "tensor_parallel": 2},
                "hardware": GPU | {"nodes": 2, "ranks_per_node": 6},
            },
            "engine.weight_sync",
            "6 ranks beside 4 GPUs of engines are more than the first node's 8",
        ),
        (
            {"hardware": {"gpus_per_node": 8, "ranks_per_node": 9}},
            "hardware.ranks_per_node",
            "9: more than gpus_per_node=8",
        ),
        (
            {"engine": {"kind": "transformers", "weight_sync": "nccl"}, "hardware": GPU},
            "engine.weight_sync",
            "nccl: is vLLM's transfer",
        ),
    ],
)
def test_a_wrong_value_fails_with_its_field_and_a_remedy(
    changes: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load_recipe("starter-cpu", changes)
    problems = dict(raised.value.problems)
    assert problems.keys() == {field}
    assert says in problems[field]


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config({"num_steps": -1, "tasks": {"limits": 1}})
    assert [field for field, _ in raised.value.problems] == ["recipe", "num_steps", "tasks.limits"]
    assert "recipe: missing: give it a value" in str(raised.value)


def test_a_group_of_one_is_possible_against_the_mean() -> None:
    changes = {"rollout": {"group_size": 1}, "algorithm": {"baseline": "mean"}}
    assert load_recipe("starter-cpu", changes).rollout.group_size == 1


def test_a_file_that_is_missing_or_no_toml_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="file: .*config.toml: not found; a run folder holds a"):
        load_config(tmp_path / "config.toml")
    (tmp_path / "config.toml").write_text("num_steps = ")
    with pytest.raises(ConfigError, match="file: .*config.toml: not TOML"):
        load_config(tmp_path / "config.toml")


def test_every_field_explains_itself() -> None:
    for section in TrainConfig.model_fields.values():
        for name, field in getattr(section.annotation, "model_fields", {}).items():
            assert field.description, f"{section.annotation}.{name} has no docstring"


def test_the_defaults_are_deepswes_seven_positions() -> None:
    algorithm = load_recipe("deepswe-32b-64gpu").algorithm
    assert (algorithm.clip_ratio_low, algorithm.clip_ratio_high) == (0.20, 0.28)
    assert algorithm.kl_coef == 0
    assert algorithm.normalize_std is False
    assert algorithm.loss_normalizer == "constant"
    assert algorithm.baseline == "leave_one_out"
    assert set(algorithm.compact_filtering) == {"max_context", "max_turns", "timeout"}
    assert algorithm.entropy_coef == 0


def test_the_deepswe_recipe_has_the_published_figures() -> None:
    config = load_recipe("deepswe-32b-64gpu")
    assert (config.tasks.tasks_per_step, config.rollout.group_size) == (64, 8)
    assert config.rollout.max_turns == 50
    assert config.rollout.temperature == 1.0
    assert (config.rollout.max_prompt_tokens, config.rollout.max_response_tokens) == (4096, 32768)
    assert config.optimizer.learning_rate == 1e-6
    assert config.hardware.nodes * config.hardware.gpus_per_node == 64


def test_what_this_version_cannot_do_is_refused_before_anything_starts() -> None:
    check_supported(load_recipe("qwen3-14b-8gpu"))
    with pytest.raises(ConfigError, match="replicas: 8 x tensor_parallel=8: this version starts"):
        check_supported(load_recipe("deepswe-32b-64gpu"))


def test_ranks_are_one_a_gpu_or_as_many_as_told() -> None:
    assert load_recipe("starter-cpu").hardware.ranks == 1
    assert load_recipe("deepswe-32b-64gpu").hardware.ranks == 64
    assert load_recipe("starter-cpu", {"hardware": {"ranks_per_node": 2}}).hardware.ranks == 2
