"""What tests of evaluations share: a configuration with a scripted model, a recorded folder, threads with a database."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w
from django.db import connections

from tests.trainer.scripted_endpoint import ScriptedEndpoint
from trainer.evaluate import main as evaluate
from trainer.evaluations.config import EVAL_FILE, EvalConfig, parse_evaluation

NAMES = ["bonus-points", "budget-left", "class-average", "count-the-sheep"]


def config_of(endpoint: ScriptedEndpoint, *, group_size: int) -> EvalConfig:
    """Of four starter tasks."""
    return parse_evaluation(
        {
            "model": {"path": "their/model", "endpoint": endpoint.url},
            "tasks": {"split": "all", "only": NAMES},
            "rollout": {"group_size": group_size, "prompt": "starter", "concurrency": 4},
            "engine": {"max_model_len": 40000},
        }
    )


def recorded_evaluation(config: EvalConfig, folder: Path) -> Path:
    """Made in a shell, in two shards."""
    (folder / EVAL_FILE).write_text(tomli_w.dumps(config.model_dump(mode="json")))
    for number in (1, 2):
        assert evaluate([str(folder), "--shard", f"{number}/2"]) == 0
    return folder


def in_thread(work: Callable[[], None]) -> threading.Thread:
    """Started, and its database connection closed at its end."""

    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "it did not happen within a minute"
        time.sleep(0.05)


def form_data(config: EvalConfig, **changes: Any) -> dict[str, Any]:
    """The configuration as the form sends it."""
    data: dict[str, Any] = {"recipe": "starter", "name": "from the page", "num_shards": "2"}
    for section, value in config.model_dump(mode="json").items():
        if isinstance(value, dict):
            data |= {f"{section}.{name}": _sent(item) for name, item in value.items()}
        elif section not in ("recipe", "description"):
            data[section] = _sent(value)
    return data | changes


def _sent(value: Any) -> Any:
    if isinstance(value, bool):
        return "on" if value else ""
    return value if isinstance(value, list) else str(value)
