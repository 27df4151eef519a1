"""Stored patches graded again: no model, fresh sandboxes, and what counts afterwards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sandbox.errors import Outcome
from sandbox.grading.grade import Grade
from sandbox.grading.protected import Change, protect
from sandbox.task import Task, load_taskset
from tests.trainer.scripted_endpoint import Script, ScriptedEndpoint, gold_script
from trainer import regrade
from trainer.evaluate import main as evaluate
from trainer.evaluations.config import EVAL_FILE
from trainer.evaluations.results import Result, read_results
from trainer.events import RolloutFinished

LATIN = "printf '\\351\\n' >> notes.txt"
"""A file that is not UTF-8, so that the patch is not either."""


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    def script(task: Task, seed: int) -> Script:
        first, last = gold_script(task)
        solved = first.replace("PATCH_ENDS</parameter>", f"PATCH_ENDS\n{LATIN}</parameter>")
        return [solved, last] if "bonus" in task.task_id else [last]

    with ScriptedEndpoint(load_taskset("starter").tasks, script=script) as started:
        yield started


def put_starter(folder: Path, changes: dict[str, Any]) -> Path:
    """The two tasks as a taskset of their own, with `changes` to each."""
    names = ("starter/bonus-points", "starter/budget-left")
    tasks = [t for t in load_taskset("starter").tasks if t.task_id in names]
    folder.mkdir()
    (folder / "taskset.toml").write_text('name = "starter"\n')
    lines = [task.model_copy(update=changes).model_dump_json() for task in tasks]
    (folder / "tasks.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_patches_are_graded_again_and_the_new_grade_counts(
    endpoint: ScriptedEndpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = put_starter(tmp_path / "right", {})
    (tmp_path / EVAL_FILE).write_text(
        f"""
        model = {{ path = "scripted", endpoint = "{endpoint.url}" }}
        tasks = {{ taskset = "{right}", split = "all" }}
        rollout = {{ group_size = 2, prompt = "starter" }}
        engine = {{ max_model_len = 40000 }}
        """
    )
    assert evaluate([str(tmp_path)]) == 0
    before = read_results(tmp_path)
    assert [result.reward for result in before] == [1.0, 1.0, 0.0, 0.0]
    assert b"\xe9" in before[0].patch
    assert regrade.main([str(tmp_path)]) == 0
    assert "4 of 4 patches graded again, 0 rewards changed" in capsys.readouterr().out
    again = read_results(tmp_path)
    assert [(r.rollout, r.reward) for r in again] == [(r.rollout, r.reward) for r in before]
    assert "regraded" in again[0].finished.files["test_log"]
    log = again[0].finished.files["test_log"]
    assert (tmp_path / log).stat().st_size
    assert again[0].patch == before[0].patch

    # hidden tests that expect something else
    wrong = put_starter(tmp_path / "wrong", {"expected_output_json": '{"test_none": "PASSED"}'})
    assert regrade.main([str(tmp_path), "--taskset", str(wrong)]) == 0
    assert "2 rewards changed" in capsys.readouterr().out
    assert [result.reward for result in read_results(tmp_path)] == [0.0] * 4
    # under a name of its own, as one that is stored is not stored again
    assert read_results(tmp_path)[0].finished.files["test_log"] != log
    assert (tmp_path / log).exists()
    assert len(endpoint.requests) == 2 * 2 + 2, "a model was asked again"


@pytest.mark.parametrize(
    ("before", "found", "after"),
    [
        (["searched_history", "tampered"], [], ["searched_history"]),
        (["searched_history"], ["forged_log"], ["forged_log", "searched_history"]),
    ],
)
def test_the_last_grade_says_what_a_patch_is_and_what_the_agent_did_stays(
    before: list[str], found: list[str], after: list[str], tmp_path: Path
) -> None:
    finished = RolloutFinished(
        rollout=uuid4(),
        group=uuid4(),
        task="starter/bonus-points",
        step=0,
        purpose="evaluation",
        outcome="task",
        termination_reason="finished",
        flags=before,
        reward=0.0,
        num_turns=1,
        num_prompt_tokens=1,
        num_sampled_tokens=1,
        num_response_tokens=1,
        tests={},
        patch="",
        files={},
        seconds=1.0,
        grade_s=1.0,
        reason="",
    )
    result = Result(index=0, folder=tmp_path, started_at=finished.time, finished=finished)
    grade = Grade(
        reward=1.0,
        outcome=Outcome.TASK,
        tests={},
        flags=frozenset(found),
        log=b"",
        seconds=1.0,
        reason="All as expected.",
    )
    assert regrade._told(result, grade).flags == after


def test_every_flag_that_protects_the_tests_is_a_grades() -> None:
    paths = ["sitecustomize.py", "bin/pytest", "conftest.py", "r2e_tests/test_1.py"]
    assert protect([Change("A", path) for path in paths]).flags <= regrade.FLAGS


def test_without_an_evaluation_or_its_tasks_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert regrade.main([str(tmp_path)]) == 2
    assert "no events.jsonl" in capsys.readouterr().err
