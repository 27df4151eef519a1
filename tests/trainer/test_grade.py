"""Predictions from elsewhere, graded with no model; those of SWE-bench rows against `swebench`'s own process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from sandbox.deployment import VARIABLE
from sandbox.task import Task, load_taskset
from tests.images.fixtures import built
from tests.sandbox.outside.conftest import LoadTaskset, taskset
from trainer import grade, report
from trainer.config import ConfigError
from trainer.evaluate import ID_FILE
from trainer.evaluations.predictions import Prediction, read_predictions, write_predictions
from trainer.evaluations.results import read_results, rewards_by_task
from trainer.events import EVENTS_FILE, read_events

__all__ = ["built", "taskset"]


def starter(name: str) -> Task:
    return next(t for t in load_taskset("starter").tasks if t.task_id == f"starter/{name}")


def predictions(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(name: str, patch: str | None, model: str = "their/model") -> dict[str, Any]:
    return {"instance_id": name, "model_name_or_path": model, "model_patch": patch, "extra": 1}


def test_predictions_are_graded_in_their_order_and_once(tmp_path: Path) -> None:
    gold, other = starter("bonus-points").gold_patch, starter("budget-left").gold_patch
    rows = [
        row("budget-left", gold),
        row("bonus-points", gold),
        row("bonus-points", None),
        row("starter/budget-left", other),
    ]
    path = predictions(tmp_path / "predictions.jsonl", rows)
    folder = tmp_path / "graded"
    assert grade.main([str(path), "starter", str(folder)]) == 0
    results = read_results(folder)
    assert rewards_by_task(results) == {
        "starter/bonus-points": [1.0, 0.0],
        "starter/budget-left": [0.0, 1.0],
    }
    assert results[2].finished.reason.startswith("The patch does not apply")
    size = (folder / "events.jsonl").stat().st_size
    assert grade.main([str(path), "starter", str(folder)]) == 0
    assert read_results(folder) == results
    assert (folder / "events.jsonl").stat().st_size < size + 3000, "graded again"
    assert report.main([str(folder)]) == 0


def test_other_patches_of_the_same_instances_are_refused(tmp_path: Path) -> None:
    folder, path = tmp_path / "graded", tmp_path / "p.jsonl"
    predictions(path, [row("bonus-points", starter("bonus-points").gold_patch)])
    assert grade.main([str(path), "starter", str(folder)]) == 0
    predictions(path, [row("bonus-points", "")])
    assert grade.main([str(path), "starter", str(folder)]) == 2
    (result,) = read_results(folder)
    assert result.reward == 1.0
    *_, (_, end) = read_events(folder / EVENTS_FILE)
    assert "take a new folder" in end.reason


def test_what_is_written_is_read_again_whatever_line_ends_it_has(tmp_path: Path) -> None:
    patch = "a\u2028b\u0085c\r\nd\n"
    written = [Prediction(instance_id=name, model_patch=patch) for name in ("a", "b")]
    write_predictions(tmp_path / "p.jsonl", written)
    assert read_predictions(tmp_path / "p.jsonl") == written
    lines = (tmp_path / "p.jsonl").read_bytes()
    (tmp_path / "p.jsonl").write_bytes(lines.replace(b"\n", b"\r\n"))
    assert read_predictions(tmp_path / "p.jsonl") == written


def test_an_instance_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = predictions(tmp_path / "p.jsonl", [row("django__django-1", "")])
    assert grade.main([str(path), "starter", str(tmp_path / "graded")]) == 2
    assert "django__django-1: not an instance of this taskset" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.json", json.dumps([row("a", "p"), row("b", None)])),
        ("keyed.json", json.dumps({"a": {"model_patch": "p"}, "b": {"model_patch": None}})),
        ("lines.jsonl", f"{json.dumps(row('a', 'p'))}\n\n{json.dumps(row('b', None))}\n"),
    ],
)
def test_every_form_of_predictions_is_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    read = read_predictions(tmp_path / name)
    assert [(p.instance_id, p.model_patch) for p in read] == [("a", "p"), ("b", None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "row 1: instance_id: Field required"),
        ("nonsense", "not readable as JSON"),
        ("", "is empty"),
        ('{"instance_id": "a"}', "row 1: model_patch: Field required"),
    ],
)
def test_a_file_that_is_none_is_told_by_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_predictions(tmp_path / "p.jsonl")


THEIR_PROCESS = """
import json, sys
from pathlib import Path
from swebench.harness.grading import get_eval_report
from swebench.harness.reporting import make_run_report
from swebench.harness.utils import get_predictions_from_file, make_test_spec

run_id, rows = sys.argv[1], [json.loads(line) for line in open(sys.argv[2])]
read = get_predictions_from_file("predictions.jsonl", "", "")
predictions = {p["instance_id"]: p for p in read}
for row in rows:
    folder = Path("logs/run_evaluation") / run_id / "their__model" / row["instance_id"]
    if (folder / "test_output.txt").exists():
        report = get_eval_report(
            make_test_spec(row), predictions[row["instance_id"]], str(folder / "test_output.txt"), True
        )
        assert json.loads((folder / "report.json").read_text()) == report, row["instance_id"]
print(make_run_report(predictions, rows, run_id, report_dir="theirs"), file=sys.stderr)
"""


def test_our_report_is_the_one_of_swebenchs_own_process(
    taskset: LoadTaskset, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("swebench")
    options = tmp_path / "options.toml"
    options.write_text(f'[bubblewrap]\nunpacked = "{built / "images"}"\n')
    monkeypatch.setenv(VARIABLE, str(options))
    tasks = taskset("swebench").tasks
    wrong = "diff --git a/extra.py b/extra.py\nnew file mode 100644\n--- /dev/null\n+++ b/extra.py\n@@ -0,0 +1 @@\n+x = 1\n"
    patches = [t.gold_patch for t in tasks[:3]] + [wrong, "", None]
    rows = [
        row(task.task_id.partition("/")[2], patch)
        for task, patch in zip(tasks[:6], patches, strict=True)
    ]
    path = predictions(tmp_path / "p.jsonl", rows)
    folder = tmp_path / "graded"
    assert grade.main([str(path), str(built / "tasksets" / "swebench"), str(folder)]) == 0
    assert report.main([str(folder)]) == 0
    run_folder = folder / "report" / "rollout_0"
    run_id = UUID((folder / ID_FILE).read_text())
    ours = json.loads((run_folder / f"their__model.{run_id}.json").read_text())

    wanted = {name["instance_id"] for name in rows}
    published = Path(__file__).parents[1] / "images" / "published" / "swebench.jsonl"
    every = published.read_text().splitlines()
    lines = [line for line in every if json.loads(line)["instance_id"] in wanted]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    command = [sys.executable, "-c", THEIR_PROCESS, str(run_id), str(tmp_path / "rows.jsonl")]
    done = subprocess.run(command, cwd=run_folder, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr.decode()
    theirs = json.loads((run_folder / os.fsdecode(done.stderr).split()[-1]).read_text())
    assert ours == theirs
    assert (ours["resolved_instances"], ours["unresolved_instances"]) == (3, 1)
    assert ours["empty_patch_instances"] == 2
