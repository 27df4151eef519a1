"""The named recipes: one TOML file each in this folder. Light: standard library and pydantic only."""

import tomllib
from pathlib import Path
from typing import Any

from trainer.config import CONFIG_FILE, ConfigError, TrainConfig, load_config, parse_config

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


def find_config(recipe_or_path: str) -> TrainConfig:
    """From a run's folder, a TOML file, or the recipe of that name. Raises ConfigError."""
    path = Path(recipe_or_path)
    if not path.is_dir() and recipe_or_path in recipe_names():
        return load_recipe(recipe_or_path)
    return load_config(path / CONFIG_FILE if path.is_dir() else path)


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
