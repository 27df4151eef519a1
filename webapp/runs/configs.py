"""A configuration as the pages show it: sections of fields with help, unit, and what differs from
the recipe. Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trainer.config import ConfigError, TrainConfig
from trainer.recipes import load_recipe

UNITS = {
    "_s": "s",
    "_mib": "MiB",
    "_gib": "GiB",
    "_tokens": "tokens",
    "_steps": "steps",
    "_chars": "characters",
    "turns": "turns",
    "model_len": "tokens",
    "group_size": "rollouts",
    "tasks_per_step": "tasks",
    "limit": "tasks",
    "num_steps": "steps",
    "concurrency": "at once",
}
HIDDEN = ("recipe", "description")
"""Set by choosing a recipe, not typed."""


@dataclass(frozen=True, kw_only=True)
class ConfigField:
    path: str
    """`rollout.group_size`; no dot for a field of the run itself."""
    name: str
    help: str
    unit: str
    kind: str
    """flag, choice, choices, names, number or text."""
    choices: tuple[str, ...]

    @property
    def section(self) -> str:
        """`rollout`; empty for a field of the run itself."""
        return self.path.rpartition(".")[0]


@dataclass(frozen=True, kw_only=True)
class ConfigSection:
    name: str
    help: str
    fields: list[ConfigField]


@dataclass(frozen=True, kw_only=True)
class ComparedField:
    field: ConfigField
    value: str
    recipe_value: str

    @property
    def differs(self) -> bool:
        return self.value != self.recipe_value


def config_sections(
    whole: type[BaseModel] = TrainConfig, own_name: str = "run"
) -> list[ConfigSection]:
    """The fields of the whole itself first, then each section in its order."""
    own: list[ConfigField] = []
    sections: list[ConfigSection] = []
    for name, info in whole.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields = [_field(f"{name}.{key}", key, item) for key, item in kind.model_fields.items()]
            sections.append(ConfigSection(name=name, help=kind.__doc__ or "", fields=fields))
        elif name not in HIDDEN:
            own.append(_field(name, name, info))
    return [ConfigSection(name=own_name, help=whole.__doc__ or "", fields=own), *sections]


def value_at(data: dict[str, Any], path: str) -> Any:
    """The value at a dotted path; None where the data has none."""
    for key in path.split("."):
        if not isinstance(data, dict) or key not in data:
            return None
        data = data[key]
    return data


ALL_WHEN_EMPTY = ("difficulties", "only")
"""Lists that choose, and choose all where they name nothing."""


def shown(value: Any, path: str = "") -> str:
    """A value of the field at `path` as one reads and types it."""
    match value:
        case None:
            return "–"
        case bool():
            return "on" if value else "off"
        case float():
            return f"{value:g}"
        case list():
            nothing = "all" if path.endswith(ALL_WHEN_EMPTY) else "none"
            return ", ".join(map(str, value)) or nothing
        case _:
            return str(value)


def recipe_data(name: str) -> dict[str, Any]:
    """The recipe's whole configuration as data; empty for one that no longer exists."""
    try:
        return load_recipe(name).model_dump(mode="json")
    except ConfigError:
        return {}


def compared_sections(
    config: dict[str, Any], recipe: dict[str, Any]
) -> list[tuple[ConfigSection, list[ComparedField]]]:
    """Every section with its values beside the recipe's."""
    return [
        (section, [_compared(field, config, recipe) for field in section.fields])
        for section in config_sections()
    ]


def differences(config: dict[str, Any], recipe: dict[str, Any]) -> list[ComparedField]:
    return [
        item for _, fields in compared_sections(config, recipe) for item in fields if item.differs
    ]


def _compared(field: ConfigField, config: dict[str, Any], recipe: dict[str, Any]) -> ComparedField:
    value, other = (shown(value_at(data, field.path), field.path) for data in (config, recipe))
    return ComparedField(field=field, value=value, recipe_value=other)


def _field(path: str, name: str, info: FieldInfo) -> ConfigField:
    kind, choices = _kind(info.annotation)
    return ConfigField(
        path=path,
        name=name,
        help=" ".join((info.description or "").split()),
        unit=_unit(name),
        kind=kind,
        choices=choices,
    )


def _kind(annotation: Any) -> tuple[str, tuple[str, ...]]:
    if annotation is bool:
        return "flag", ()
    if get_origin(annotation) is list:
        choices = tuple(_literals(get_args(annotation)[0]))
        return ("choices" if choices else "names"), choices
    if choices := tuple(_literals(annotation)):
        return "choice", choices
    return ("number" if annotation in (int, float) else "text"), ()


def _literals(annotation: Any) -> Iterator[str]:
    yield from (value for value in get_args(annotation) if isinstance(value, str))


def _unit(name: str) -> str:
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "")
