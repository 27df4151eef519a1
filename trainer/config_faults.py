"""What is wrong with a configuration, told by field: the value and the remedy. Light: standard library and pydantic only.

It judges nothing: pydantic judges single fields by their types (`trainer.config`), `trainer.config_rules` several together.
"""

from typing import Any

from pydantic import BaseModel, ValidationError

Fault = tuple[str, str]
"""A field by its dotted name ("rollout.group_size"), and what is wrong with it."""


class ConfigError(ValueError):
    """A configuration is impossible: `problems` holds one (field, message) pair a fault."""

    def __init__(self, problems: list[Fault]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{field}: {message}" for field, message in problems))


def told(error: ValidationError, kind: type[BaseModel]) -> list[Fault]:
    """Every fault that pydantic found in data for a `kind`; those of a ConfigError that a validator raised as they are."""
    faults: list[Fault] = []
    for found in error.errors():
        nested = found.get("ctx", {}).get("error")
        if isinstance(nested, ConfigError):
            faults += nested.problems
            continue
        field = ".".join(str(part) for part in found["loc"])
        explained = f"not a field; {_known_fields(field, kind)}"
        if found["type"] != "extra_forbidden":
            explained = _explain(found["type"], found["msg"], found["input"])
        faults.append((field, explained))
    return faults


def _explain(found: str, message: str, value: Any) -> str:
    if found == "missing":
        return "missing: give it a value"
    return f"{value!r}: {message[0].lower()}{message[1:]}"


def _known_fields(field: str, kind: type[BaseModel]) -> str:
    section = kind
    *parents, _ = field.split(".")
    for name in parents:
        annotation = section.model_fields[name].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        section = annotation
    return f"known here: {', '.join(section.model_fields)}"
