"""A predictions file, graded by `trainer.grade` on a Docker engine and by `swebench`'s own process: the same reports."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from sandbox.load import main as load
from sandbox.task import load_taskset
from tests.images.fixtures import built, engine
from tests.images.rows import PUBLISHED
from tests.images.swebench_process import MODEL, predictions, run_evaluation, write_predictions
from trainer import grade, report
from trainer.evaluate import ID_FILE

pytestmark = [pytest.mark.docker, pytest.mark.slow]

__all__ = ["built", "engine"]


def test_a_predictions_file_is_reported_as_by_swebench(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("swebench")
    monkeypatch.setenv("DOCKER_HOST", engine)
    tasks = tmp_path / "tasks"
    assert load([str(PUBLISHED / "swebench.jsonl"), "--name", "swebench", str(tasks)]) == 0
    patches = predictions(load_taskset(str(tasks)).tasks)
    (tmp_path / "theirs").mkdir()
    theirs = run_evaluation(engine, patches, tmp_path / "theirs")

    write_predictions(patches, tmp_path / "predictions.json")
    graded = tmp_path / "graded"
    command = [str(tmp_path / "predictions.json"), str(tasks), str(graded), "--backend", "docker"]
    assert grade.main(command) == 0
    assert report.main([str(graded)]) == 0

    folder = graded / "report" / "rollout_0"
    run = json.loads((folder / f"{MODEL}.{UUID((graded / ID_FILE).read_text())}.json").read_text())
    assert run == {name: theirs.run[name] for name in run}
    of_their_engine = {"unstopped_instances", "unstopped_containers", "unremoved_images"}
    assert theirs.run.keys() - run.keys() == of_their_engine
    instances = {}
    for path in folder.glob("logs/run_evaluation/*/*/*/report.json"):
        instances |= json.loads(path.read_text())
    assert instances == theirs.instances
    assert run["resolved_instances"]
    assert run["unresolved_instances"]
    assert run["error_instances"]
