"""SWE-bench predictions: which patch a model gives for each instance. `{instance_id, model_name_or_path, model_patch}`.

Read from JSON lines, from a JSON list or from an object keyed by instance (SWE-agent's preds.json); written as JSON lines,
one file a rollout, because the format has one patch an instance.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.config import ConfigError


class Prediction(BaseModel):
    """One line. Fields of other tools are left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    instance_id: str
    model_name_or_path: str = ""
    model_patch: str | None


def instance_of(task_id: str) -> str:
    """A task's name as predictions call it: without the taskset."""
    return task_id.partition("/")[2] or task_id


def read_predictions(path: Path) -> list[Prediction]:
    """In the file's order. Raises ConfigError naming the place and the remedy."""
    try:
        rows = list(_rows(path))
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError([("predictions", f"{path}: not readable as JSON: {error}")]) from error
    if not rows:
        raise ConfigError([("predictions", f"{path}: is empty; give one line an instance")])
    predictions = []
    for number, row in enumerate(rows, start=1):
        try:
            predictions.append(Prediction.model_validate(row))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "row"
            message = f"{path}: row {number}: {field}: {first['msg']}"
            raise ConfigError([("predictions", message)]) from error
    return predictions


def _rows(path: Path) -> Iterable[Any]:
    text = path.read_text()
    if path.suffix != ".json":
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    data = json.loads(text)
    if isinstance(data, dict):
        return [{"instance_id": name, **row} for name, row in data.items()]
    return list(data)


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(p.model_dump_json() + "\n" for p in predictions))
