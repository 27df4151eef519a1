"""PyPI's `swebench` on the tests' own instances, as a process of its own on a Docker engine."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sandbox.rows.patches import file_patch
from sandbox.task import Task
from tests.images.rows import PUBLISHED

MODEL = "studio"
RUN_ID = "equal"
WRONG = "# nothing is mended\n"


class TheirReports(NamedTuple):
    instances: dict[str, Any]
    """Instance -> its report, of those that left test output."""
    run: dict[str, Any]


def predictions(tasks: Sequence[Task]) -> dict[str, str]:
    """Instance -> patch: in turn the gold patch, one that mends nothing, one that does not apply, none."""
    made = {}
    for number, task in enumerate(tasks):
        made[task.task_id.rpartition("/")[2]] = (
            task.gold_patch,
            file_patch("notes.py", None, WRONG),
            task.gold_patch.replace("@@ -", "@@ -9", 1).replace("\n ", "\n  "),
            "",
        )[number % 4]
    return made


def write_predictions(patches: Mapping[str, str], path: Path) -> None:
    rows = [
        {"instance_id": name, "model_patch": patch, "model_name_or_path": MODEL}
        for name, patch in patches.items()
    ]
    path.write_text(json.dumps(rows))


def run_evaluation(engine: str, patches: Mapping[str, str], folder: Path) -> TheirReports:
    """What `swebench.harness.run_evaluation` writes about the patches."""
    write_predictions(patches, folder / "predictions.json")
    command = [sys.executable, "-m", "swebench.harness.run_evaluation", "--run_id", RUN_ID]
    # All at once: it waits a quarter of a minute for each of its containers to stop.
    command += ["--dataset_name", str(PUBLISHED / "swebench.jsonl")]
    command += ["--max_workers", str(len(patches))]
    command += ["--predictions_path", str(folder / "predictions.json"), "--timeout", "300"]
    environment = {**os.environ, "DOCKER_HOST": engine, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    reports: dict[str, Any] = {}
    for path in folder.glob(f"logs/run_evaluation/{RUN_ID}/{MODEL}/*/report.json"):
        reports |= json.loads(path.read_text())
    return TheirReports(reports, json.loads((folder / f"{MODEL}.{RUN_ID}.json").read_text()))
