"""The files that an evaluation leaves for others, from a real evaluation: each rollout under its own id in every one."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest

from sandbox.task import Task, load_taskset
from tests.trainer.scripted_endpoint import ScriptedEndpoint
from trainer import report
from trainer.evaluate import main as evaluate
from trainer.evaluations.config import EVAL_FILE
from trainer.evaluations.predictions import Prediction, read_predictions
from trainer.evaluations.results import Result, read_results
from trainer.reports.content import Bullets, Report, Table, Text
from trainer.reports.html import html
from trainer.reports.markdown import markdown
from trainer.reports.plots import curves_plot
from trainer.reports.swebench import Graded, run_report, status_of_tests

BODY = re.compile(r"<body>.*</body>", re.DOTALL)
NAMES = ["bonus-points", "budget-left", "class-average"]


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    with ScriptedEndpoint(load_taskset("starter").tasks) as endpoint:
        (folder / EVAL_FILE).write_text(
            f"""
            model = {{ path = "their/model", endpoint = "{endpoint.url}" }}
            tasks = {{ split = "all", only = {NAMES} }}
            rollout = {{ group_size = 2, prompt = "starter", max_turns = 7 }}
            engine = {{ max_model_len = 40000 }}
            """
        )
        assert evaluate([str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def written(evaluation: Path) -> Path:
    assert report.main([str(evaluation)]) == 0
    return evaluation / "report"


@pytest.fixture(scope="module")
def results(evaluation: Path) -> list[Result]:
    return read_results(evaluation)


def test_the_markdown_report_has_the_rates(written: Path, results: list[Result]) -> None:
    text = (written / "report.md").read_text()
    solved = sum(result.reward or 0 for result in results) / 6
    assert 0 < solved < 1
    assert f"- pass@1: {solved:.1%} (" in text
    assert "6 of 6 rollouts have a score" in text
    assert "|  | k = 1 | k = 2 |" in text
    assert "| Repository | tasks | pass@1 |" in text


def test_the_page_is_whole_in_itself_and_has_the_plots(
    written: Path, results: list[Result]
) -> None:
    text = (written / "report.html").read_text()
    assert len(text) < 100_000
    page = ElementTree.fromstring(BODY.search(text)[0])
    assert [image.get("aria-label") for image in page.iter("svg")] == [
        "pass@k and best@k against k",
        "pass@1 by part",
    ]
    solved = sum(result.reward or 0 for result in results) / 6
    shown = [title.text for title in page.iter("title")]
    assert f"pass@k, k = 1: {solved:.1%}" in shown
    assert f"best@k, vote, k = 2: {vote_at_2(results):.1%}" in shown
    assert not {"script", "link", "img"} & {element.tag for element in page.iter()}
    # the Markdown says the same
    for row in (written / "report.md").read_text().splitlines():
        if row.startswith("| best@k"):
            assert row.strip("| ").split(" | ") in [
                [cell.text for cell in line] for line in page.iter("tr")
            ]


def vote_at_2(results: list[Result]) -> float:
    """Of two rollouts the patched one has the only vote, or both have the same, or none has."""
    tasks: dict[str, list[Result]] = {}
    for result in results:
        tasks.setdefault(result.task, []).append(result)
    return sum(
        max(r.reward or 0 for r in group if r.patch or not any(g.patch for g in group))
        for group in tasks.values()
    ) / len(tasks)


def test_names_in_a_page_are_text_and_no_markup() -> None:
    report = Report(
        title="<script>alert(1)</script>",
        head=Bullets(["a & b"]),
        blocks=[Table(["<th>"], [["</td>"]]), Text("<p>")],
        curves={"<g>": [0.0, 1.0]},
        parts=[],
    )
    page = html(report)
    assert "<script>" not in page
    assert "&lt;g&gt;" in page
    assert markdown(report).startswith("# <script>")
    assert curves_plot({"pass@k": [0.5]}) == ""


def test_the_table_has_one_row_a_rollout(written: Path, results: list[Result]) -> None:
    rows = pq.read_table(written / "results.parquet").to_pylist()
    assert [(row["rollout"], row["reward"], row["patch"]) for row in rows] == [
        (str(result.rollout), result.reward, result.patch) for result in results
    ]
    assert {row["difficulty"] for row in rows} <= {"easy", "middle", "hard"}


def test_trajectories_are_r2e_gyms(written: Path, results: list[Result]) -> None:
    rows = [json.loads(line) for line in (written / "trajectories.jsonl").read_text().splitlines()]
    by_patch = sorted((row["ds"]["task_id"], row["output_patch"], row["reward"]) for row in rows)
    assert by_patch == sorted((r.task, r.patch.decode(), r.reward) for r in results)
    solved = next(row for row in rows if row["reward"] == 1)
    first, last = solved["trajectory_steps"]
    assert first["action"].startswith("<function=execute_bash>\n<parameter=cmd>git apply")
    assert (last["action"], last["done"]) == ("<function=finish>\n</function>", True)
    assert (solved["exit_reason"], solved["max_steps"]) == ("agent", 7)


def test_each_rollout_is_a_run_in_swe_benchs_form(written: Path, results: list[Result]) -> None:
    for index in (0, 1):
        folder = written / f"rollout_{index}"
        predictions = read_predictions(folder / "predictions.jsonl")
        (path,) = folder.glob("their__model.*.json")
        told = json.loads(path.read_text())
        here = [r for r in results if r.index == index]
        assert [p.model_patch for p in predictions] == [r.patch.decode() for r in here]
        assert told["resolved_ids"] == sorted(r.task[8:] for r in here if r.reward)
        assert told["empty_patch_ids"] == sorted(r.task[8:] for r in here if not r.patch)
        assert (told["schema_version"], told["total_instances"]) == (2, 3)
        for name in told["resolved_ids"]:
            (instance,) = folder.glob(f"logs/run_evaluation/*/their__model/{name}/report.json")
            row = json.loads(instance.read_text())[name]
            assert row["resolved"]
            assert row["tests_status"]["FAIL_TO_PASS"]["success"]
            assert not row["tests_status"]["FAIL_TO_PASS"]["failure"]


def test_a_run_report_counts_each_instance_once() -> None:
    def graded(name: str, patch: str | None, resolved: bool | None, *failure: bool) -> Graded:
        return Graded(
            prediction=Prediction(instance_id=name, model_name_or_path="m", model_patch=patch),
            report=None if resolved is None else {"resolved": resolved},
            failure=("out_of_memory", failure[0]) if failure else None,
        )

    told = run_report(
        ["a", "b", "c", "d", "e", "f"],
        [
            graded("e", "p", False, True),
            graded("a", "p", True),
            graded("b", "p", False, False),
            graded("c", None, None),
            graded("d", "p", None),
        ],
    )
    assert told["submitted_ids"] == ["a", "b", "c", "d", "e"]
    assert told["incomplete_ids"] == ["f"]
    assert (told["completed_ids"], told["error_ids"]) == (["a", "b", "e"], ["d"])
    assert (told["resolved_ids"], told["unresolved_ids"]) == (["a"], ["b", "e"])
    assert (told["infra_failure_ids"], told["ambiguous_failure_ids"]) == (["e"], ["b"])
    assert told["empty_patch_ids"] == ["c"]
    assert (told["completed_instances"], told["resolved_instances"]) == (3, 1)


def test_tests_are_sorted_by_kind_and_compared_with_what_is_expected() -> None:
    task = Task(
        task_id="t/a",
        repo_name="a",
        docker_image="i",
        problem_statement="",
        expected_output_json=json.dumps({"one": "PASSED", "two": "FAILED", "three": "PASSED"}),
    )
    actual = {"one": "PASSED", "two": "FAILED"}
    told = status_of_tests(task, actual)
    assert told["FAIL_TO_PASS"] == {"success": ["one", "two"], "failure": ["three"]}
    named = task.model_copy(update={"FAIL_TO_PASS": ["three"], "PASS_TO_PASS": ["one"]})
    told = status_of_tests(named, actual)
    assert told["FAIL_TO_PASS"] == {"success": [], "failure": ["three"]}
    assert told["PASS_TO_PASS"] == {"success": ["one"], "failure": []}


def test_a_folder_that_has_not_begun_is_no_report(tmp_path: Path) -> None:
    assert report.main([str(tmp_path)]) == 2
