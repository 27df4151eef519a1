"""One TOML file an evaluation, one typed `EvalConfig`. Light: standard library and pydantic only.

Its sections are the trainer's own where they say the same, so a run and its evaluation are configured in the same words.
Named ones are in trainer/recipes/evaluations/. Faults are told as `trainer.config` tells them.
"""

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from sandbox.task import Difficulty
from trainer.config import (
    AlgorithmConfig,
    ComputeType,
    ConfigError,
    EngineConfig,
    HardwareConfig,
    ModelConfig,
    NonNegative,
    RolloutConfig,
    SandboxConfig,
    Section,
    TasksConfig,
    TrainConfig,
    parse_as,
    read_toml,
)
from trainer.recipes import merge

EVAL_FILE = "evaluation.toml"
RECIPES = Path(__file__).parent.parent / "recipes" / "evaluations"


class EvalModelConfig(Section):
    """What is evaluated."""

    path: str = "var/models/smollm2-135m"
    """Folder with config.json, safetensors and tokenizer; a run's folder (its newest checkpoint) or one of its
    checkpoints; or a Hugging Face id. With an endpoint: the name by which it serves the model."""
    endpoint: str = ""
    """Base URL of an OpenAI-compatible server (".../v1") that samples; empty: an engine is started here."""
    api_key_file: str = ""
    """File whose content the endpoint is sent as its bearer token; empty: none is sent."""
    dtype: ComputeType = "auto"
    """Compute type of an engine that is started here; auto: bfloat16 where the hardware multiplies it, else float32."""


class EvalTasksConfig(Section):
    """What it is evaluated on."""

    taskset: str = "starter"
    """A bundled taskset by name, or a taskset folder."""
    split: Literal["train", "heldout", "all"] = "heldout"
    """Part of the taskset; "all" also takes tasks that are in neither."""
    difficulties: list[Difficulty] = []
    """Bands; empty means all."""
    only: list[str] = []
    """Names of the tasks; empty means all of the split and bands."""
    limit: NonNegative = 0
    """At most this many tasks; 0 means all."""


class EvalConfig(Section):
    """A whole evaluation. `rollout.group_size` is k, the rollouts a task."""

    recipe: str = ""
    """The named recipe this configuration came from; empty: written by hand."""
    description: str = ""
    """One sentence for people."""
    seed: NonNegative = 0
    """Seeds sampling."""
    infra_retries: NonNegative = 2
    """Times that a rollout which ended as INFRA is tried again in a fresh sandbox; then it has no score."""
    model: EvalModelConfig = EvalModelConfig()
    tasks: EvalTasksConfig = EvalTasksConfig()
    rollout: RolloutConfig = RolloutConfig()
    engine: EngineConfig = EngineConfig()
    sandbox: SandboxConfig = SandboxConfig()
    hardware: HardwareConfig = HardwareConfig()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.as_train_config()
        if len(set(self.tasks.only)) < len(self.tasks.only):
            raise ConfigError([("tasks.only", f"{self.tasks.only}: names one twice")])
        if self.model.endpoint and not self.model.endpoint.startswith(("http://", "https://")):
            message = f"{self.model.endpoint!r}: needs a URL such as http://host:8000/v1"
            raise ConfigError([("model.endpoint", message)])
        return self

    def with_found_model(self) -> Self:
        """With the checkpoint's folder in place of a run's, whose newest checkpoint may be another one tomorrow."""
        model = self.model.model_copy(update={"path": model_folder(self.model.path)})
        return self.model_copy(update={"model": model})

    def with_context_limit(self, limit: int) -> Self:
        """With `limit` tokens after the prompt; a turn's own limit is lowered to it. Raises ConfigError."""
        rollout = {
            "max_response_tokens": limit,
            "max_turn_tokens": min(limit, self.rollout.max_turn_tokens),
        }
        return parse_as(type(self), merge(self.model_dump(mode="json"), {"rollout": rollout}))

    def as_train_config(self) -> TrainConfig:
        """The same in the words of the trainer, for the parts that both use. Raises ConfigError."""
        return TrainConfig(
            recipe=self.recipe,
            seed=self.seed,
            num_steps=1,
            model=ModelConfig(path=model_folder(self.model.path), dtype=self.model.dtype),
            tasks=TasksConfig(taskset=self.tasks.taskset),
            rollout=self.rollout,
            # nothing is learnt, and a single rollout a task is allowed
            algorithm=AlgorithmConfig(baseline="mean"),
            engine=self.engine,
            sandbox=self.sandbox,
            hardware=self.hardware,
        )


def model_folder(path: str) -> str:
    """The model folder behind a run's folder or a checkpoint; any other path or id as it is."""
    root = Path(path)
    try:
        if (root / "model" / "config.json").is_file():
            return str(root / "model")
        checkpoints = list(root.glob("checkpoints/step_*/model"))
    except OSError:  # an id too long for a file's name, or a folder that others may not open
        return path
    if not checkpoints:
        return path
    return str(max(checkpoints, key=lambda p: int(p.parent.name.removeprefix("step_"))))


def parse_evaluation(data: dict[str, Any]) -> EvalConfig:
    """From plain data. Raises ConfigError with every field that is wrong."""
    return parse_as(EvalConfig, data)


def load_evaluation(folder: Path) -> EvalConfig:
    """Of an evaluation's folder. Raises ConfigError (field "file" when there is none)."""
    if not (folder / EVAL_FILE).is_file():
        message = f"{folder / EVAL_FILE}: not found; an evaluation's folder holds one"
        raise ConfigError([("file", message)])
    return parse_evaluation(read_toml(folder / EVAL_FILE))


def evaluation_recipes() -> list[str]:
    """Names of the recipes for evaluations."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_evaluation_recipe(name: str, overrides: dict[str, Any] | None = None) -> EvalConfig:
    """The recipe `name`, with nested `overrides` laid over it. Raises ConfigError."""
    if name not in evaluation_recipes():
        known = ", ".join(evaluation_recipes())
        raise ConfigError([("recipe", f"{name!r}: not known; one of {known}")])
    data = tomllib.loads((RECIPES / f"{name}.toml").read_text())
    return parse_evaluation(merge(data, overrides or {}))
