"""The rules by which validation excludes a task; gradings of real tasks are in test_starter.py."""

import json
from pathlib import Path

import pytest

from sandbox.environment import Grade
from sandbox.errors import Outcome, TasksetError
from sandbox.task import Task
from sandbox.validate import Attempt, exclusion, main, validate, validate_task

TASK = Task(
    task_id="t/one",
    repo_name="one",
    docker_image="image",
    problem_statement="Fix it.",
    expected_output_json='{"test_a": "PASSED"}',
    gold_patch="a patch",
)


def graded(
    *, reward: float | None, status: str = "PASSED", outcome: Outcome = Outcome.TASK
) -> Grade:
    return Grade(
        reward=reward,
        outcome=outcome,
        tests={"test_a": status},
        flags=frozenset(),
        log=b"",
        seconds=0.5,
        reason="one sentence",
    )


def attempt(patch: str, *, reward: float, status: str) -> Attempt:
    return Attempt.model_validate(
        {
            "patch": patch,
            "outcome": "task",
            "reward": reward,
            "tests": {"test_a": status},
            "reason": "one sentence",
            "seconds": 0.1,
        }
    )


GOLD = attempt("gold", reward=1, status="PASSED")
EMPTY = attempt("empty", reward=0, status="FAILED")


def test_gold_that_passes_and_empty_that_fails_are_accepted():
    assert exclusion([GOLD, GOLD, EMPTY, EMPTY]) == ""


def test_gold_that_fails_excludes():
    assert "gold patch does not pass" in exclusion(
        [attempt("gold", reward=0, status="FAILED"), EMPTY]
    )


def test_empty_that_passes_excludes():
    passing = attempt("empty", reward=1, status="PASSED")
    assert "empty patch passes" in exclusion([GOLD, passing])


def test_runs_that_disagree_exclude_and_name_the_test():
    reason = exclusion([GOLD, attempt("gold", reward=0, status="FAILED"), EMPTY])
    assert reason == "gold patch: 2 runs disagree about test_a"


def test_a_grading_that_broke_excludes_with_its_reason():
    verdict = validate_task(
        TASK, lambda task, patch: graded(reward=None, outcome=Outcome.INFRA), runs=1
    )
    assert not verdict.accepted
    assert verdict.reason == "gold patch could not be graded: one sentence"


def test_a_task_without_gold_patch_is_excluded_ungraded():
    task = TASK.model_copy(update={"gold_patch": ""})
    verdict = validate_task(task, lambda task, patch: pytest.fail("graded"), runs=3)
    assert "add gold.patch" in verdict.reason
    assert verdict.attempts == []


def test_a_malformed_task_is_excluded_with_the_error():
    def grade_patch(task: Task, patch: bytes) -> Grade:
        raise TasksetError("t/one: expected_output_json is empty")

    assert validate_task(TASK, grade_patch, runs=1).reason == "t/one: expected_output_json is empty"


def test_each_patch_is_graded_as_often_as_asked():
    seen: list[bytes] = []

    def grade_patch(task: Task, patch: bytes) -> Grade:
        seen.append(patch)
        gold = bool(patch)
        return graded(reward=float(gold), status="PASSED" if gold else "FAILED")

    verdict = validate_task(TASK, grade_patch, runs=3)
    assert seen == [b"a patch"] * 3 + [b""] * 3
    assert verdict.accepted
    assert verdict.seconds == 3


def test_verdicts_keep_the_order_of_the_tasks():
    tasks = [TASK.model_copy(update={"task_id": f"t/{n}"}) for n in range(5)]
    verdicts = validate(tasks, lambda task, patch: graded(reward=0), runs=1, jobs=3)
    assert [verdict.task_id for verdict in verdicts] == [task.task_id for task in tasks]


def test_an_unknown_taskset_ends_with_2_and_names_the_bundled_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "bundled tasksets: starter" in capsys.readouterr().err


@pytest.fixture
def faulty_taskset(tmp_path: Path) -> Path:
    """Two tasks: `good` is in order, the gold patch of `idle` changes nothing that is tested."""
    root = tmp_path / "pair"
    for name in ("good", "idle"):
        (root / name / "repo").mkdir(parents=True)
        (root / name / "tests").mkdir()
        (root / name / "repo" / "one.py").write_text("ONE = 2\n")
        (root / name / "tests" / "test_1.py").write_text(
            "from one import ONE\n\n\ndef test_one():\n    assert ONE == 1\n"
        )
        fixed = "ONE = 1" if name == "good" else "ONE = 3"
        (root / name / "gold.patch").write_text(
            "diff --git a/one.py b/one.py\n--- a/one.py\n+++ b/one.py\n"
            f"@@ -1 +1 @@\n-ONE = 2\n+{fixed}\n"
        )
        (root / name / "task.toml").write_text(
            'problem_statement = "ONE must be 1."\n[expected_output]\ntest_one = "PASSED"\n'
        )
    (root / "taskset.toml").write_text('name = "pair"\ndocker_image = "deepswe-studio/starter:1"\n')
    return root


def test_the_command_reports_excludes_and_ends_with_1(
    faulty_taskset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    assert main([str(faulty_taskset), "--runs", "1", "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "[1/2] ok" in printed
    assert "1 of 2 tasks excluded:" in printed
    assert "gold patch does not pass" in printed
    rows = [json.loads(line) for line in (out / "validation.jsonl").read_text().splitlines()]
    assert [(row["task_id"], row["accepted"]) for row in rows] == [
        ("pair/good", True),
        ("pair/idle", False),
    ]
