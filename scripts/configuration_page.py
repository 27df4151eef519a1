"""Write the tables of docs/configuration.md: every field of a run's and an evaluation's configuration, from their schemas.

python -m scripts.configuration_page
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.marked import put
from trainer.config import Section, TrainConfig
from trainer.evaluations.config import EvalConfig

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
KINDS: dict[str, type[Section]] = {"run": TrainConfig, "evaluation": EvalConfig}
"""Marks in the page -> what is between them."""
BOUNDS = {
    "exclusiveMinimum": "above",
    "minimum": "from",
    "exclusiveMaximum": "below",
    "maximum": "to",
}
"""Keyword of JSON Schema (2020-12 validation, section 6.2) -> our word."""
TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
}

Schema = dict[str, Any]


def main() -> None:
    for name, kind in KINDS.items():
        put(PAGE, f"{name} tables", tables(kind))


def tables(kind: type[Section]) -> str:
    """The fields of the whole itself first, then a table for each section that a run has not got too, in their order."""
    whole = kind.model_json_schema()
    told = {} if kind is TrainConfig else TrainConfig.model_json_schema()["$defs"]
    fields = whole["properties"]
    own = {name: schema for name, schema in fields.items() if "$ref" not in schema}
    parts = [table(own)]
    for name in [name for name in fields if name not in own]:
        kind_of_section = fields[name]["$ref"].rpartition("/")[2]
        section = whole["$defs"][kind_of_section]
        if kind_of_section in told:
            parts.append(f"**`[{name}]`**: as that of a run.")
        else:
            parts += [f"**`[{name}]`**: {sentence(section)}", table(section["properties"])]
    return "\n" + "\n\n".join(parts) + "\n\n"


def table(fields: dict[str, Schema]) -> str:
    rows = [
        f"| `{name}` | {default(schema)} | {accepted(schema)} | {sentence(schema)} |"
        for name, schema in fields.items()
    ]
    return "\n".join(["| field | default | accepts | what it is |", "|---|---|---|---|", *rows])


def default(schema: Schema) -> str:
    """As TOML writes it, which is as JSON does."""
    return f"`{json.dumps(schema['default'])}`" if "default" in schema else "none: must be given"


def accepted(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if "items" in schema:
        return f"list of {accepted(schema['items'])}"
    bounds = [f"{word} {schema[key]:g}" for key, word in BOUNDS.items() if key in schema]
    return " ".join([TYPES[schema["type"]], *bounds])


def sentence(schema: Schema) -> str:
    return " ".join(schema.get("description", "").split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
