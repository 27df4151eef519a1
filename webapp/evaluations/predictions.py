"""Rollouts as SWE-bench predictions: a JSON line an instance, as `python -m trainer.report` writes them."""

import json
from collections.abc import Iterable, Iterator

from django.core.files.storage import default_storage

from webapp.rollouts.models import Rollout


def predictions(rollouts: Iterable[Rollout], model: str) -> Iterator[str]:
    for rollout in rollouts:
        row = {
            "instance_id": rollout.task.partition("/")[2] or rollout.task,
            "model_name_or_path": model,
            "model_patch": whole_patch(rollout),
        }
        yield json.dumps(row) + "\n"


def whole_patch(rollout: Rollout) -> str:
    """A large one is a file in the storage, and only its beginning is in the row."""
    name = rollout.files.get("patch", "")
    if not name or not default_storage.exists(name):
        return rollout.patch
    with default_storage.open(name) as file:
        return str(file.read().decode(errors="replace"))
