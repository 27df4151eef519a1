"""The named recipes: one TOML file each in this folder. Light: standard library and pydantic only."""

import tomllib
from pathlib import Path
from typing import Any

from trainer.config import ConfigError, TrainConfig, parse_config

FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """Names of all recipes, smallest hardware first."""
    return sorted((path.stem for path in FOLDER.glob("*.toml")), key=_size)


def load_recipe(name: str, overrides: dict[str, Any] | None = None) -> TrainConfig:
    """The recipe `name`, with nested `overrides` laid over it. Raises ConfigError."""
    path = FOLDER / f"{name}.toml"
    if name not in recipe_names():
        raise ConfigError([("recipe", f"{name!r}: not known; one of {', '.join(recipe_names())}")])
    return parse_config(merge(tomllib.loads(path.read_text()), overrides or {}))


def _size(name: str) -> tuple[int, str]:
    hardware = tomllib.loads((FOLDER / f"{name}.toml").read_text()).get("hardware", {})
    return hardware.get("nodes", 1) * hardware.get("gpus_per_node", 0), name


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid over it, section by section."""
    merged = dict(base)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if nested else value
    return merged
