"""The rules by which validation excludes a task; gradings of real tasks are in test_starter.py."""

import json
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sandbox.environment import Grade
from sandbox.errors import Outcome, TasksetError
from sandbox.events import EventWriter, TaskJudged, read_events
from sandbox.limits import Limits, usual_limits
from sandbox.task import Task
from sandbox.validate import Validation, exclusion, main, validate_task
from sandbox.verdicts import Attempt, Verdict

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


TASKS = [TASK.model_copy(update={"task_id": f"t/{n}"}) for n in range(5)]


class Grader:
    """Grades by rule, and counts: gold passes, empty fails."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.breaks = ""
        self.stops_at = ""
        self.validation: Validation | None = None

    def __call__(self, task: Task, patch: bytes) -> Grade:
        self.asked.append(task.task_id)
        if task.task_id == self.stops_at and self.validation:
            self.validation.stop.set()
        if task.task_id == self.breaks:
            return graded(reward=None, outcome=Outcome.INFRA)
        return graded(reward=float(bool(patch)), status="PASSED" if patch else "FAILED")


def validate(folder: Path, grader: Grader, *, jobs: int = 1, **changes: Any) -> list[Verdict]:
    with closing(EventWriter(folder)) as events:
        options = {"tasks": TASKS, "runs": 1, "backend": "bubblewrap", "events": events}
        grader.validation = Validation(folder=folder, **options | changes)
        return grader.validation.run(grader, jobs=jobs)


def ids(verdicts: Iterable[Verdict]) -> list[str]:
    return [verdict.task_id for verdict in verdicts]


def lines_of(folder: Path) -> list[str]:
    return ids(
        Verdict.model_validate_json(line)
        for line in (folder / "validation.jsonl").read_text().splitlines()
    )


def test_verdicts_keep_the_order_of_the_tasks(tmp_path: Path):
    verdicts = validate(tmp_path, Grader(), jobs=3)
    assert ids(verdicts) == ids_of_tasks() == lines_of(tmp_path)


def ids_of_tasks() -> list[str]:
    return [task.task_id for task in TASKS]


def test_what_is_known_is_not_graded_again(tmp_path: Path):
    validate(tmp_path, Grader())
    again = Grader()
    assert len(validate(tmp_path, again)) == 5
    assert again.asked == []
    events = [event for _, event in read_events(tmp_path / "events.jsonl")]
    assert [event.known for event in events if isinstance(event, TaskJudged)] == [False] * 5 + [
        True
    ] * 5


def test_a_changed_task_other_limits_other_runs_and_fresh_are_graded_again(tmp_path: Path):
    validate(tmp_path, Grader())
    changed, roomy, more, fresh = Grader(), Grader(), Grader(), Grader()
    tasks = [TASKS[0].model_copy(update={"problem_statement": "Other."}), *TASKS[1:]]
    validate(tmp_path, changed, tasks=tasks)
    assert set(changed.asked) == {"t/0"}
    validate(tmp_path, roomy, limits_of=lambda task: Limits(disk_mib=8192))
    assert len(roomy.asked) == 10
    validate(tmp_path, more, runs=2)
    assert len(more.asked) == 20
    validate(tmp_path, fresh, runs=2, fresh=True)
    assert len(fresh.asked) == 20


def test_a_grading_that_broke_is_tried_again(tmp_path: Path):
    broken = Grader()
    broken.breaks = "t/2"
    first = validate(tmp_path, broken)
    assert [v.task_id for v in first if not v.accepted] == ["t/2"]
    again = Grader()
    assert all(v.accepted for v in validate(tmp_path, again))
    assert set(again.asked) == {"t/2"}


def test_a_verdict_without_a_grading_is_made_again(tmp_path: Path):
    """As when `swebench` was not installed."""

    def cannot_grade(task: Task, patch: bytes) -> Grade:
        raise TasksetError(f"{task.task_id}: grading needs PyPI's swebench")

    with closing(EventWriter(tmp_path)) as events:
        validation = Validation(TASKS, tmp_path, runs=1, backend="bubblewrap", events=events)
        assert not any(verdict.accepted for verdict in validation.run(cannot_grade, jobs=1))
    again = Grader()
    assert all(verdict.accepted for verdict in validate(tmp_path, again))
    assert set(again.asked) == set(ids_of_tasks())


def test_a_stopped_validation_goes_on_where_it_was(tmp_path: Path):
    stopped = Grader()
    stopped.stops_at = "t/1"
    assert ids(validate(tmp_path, stopped)) == ["t/0"]
    with (tmp_path / "validation.jsonl").open("a") as file:
        file.write('{"task_id": "t/1", "acc')
    again = Grader()
    assert len(validate(tmp_path, again)) == 5
    assert set(again.asked) == {"t/1", "t/2", "t/3", "t/4"}
    assert lines_of(tmp_path) == ids_of_tasks()


def test_a_repository_of_the_images_own_has_more_room():
    bundled = TASK.model_copy(update={"files": {"one.py": "1"}})
    assert usual_limits(bundled) == Limits()
    assert usual_limits(TASK).disk_mib > Limits().disk_mib


def test_limits_can_be_said(faulty_taskset: Path, tmp_path: Path):
    """In two mebibytes of memory, the disk included, no test can run."""
    out = tmp_path / "out"
    assert (
        main(
            [
                str(faulty_taskset),
                "--runs",
                "1",
                "--memory-mib",
                "1",
                "--disk-mib",
                "1",
                "--out",
                str(out),
            ]
        )
        == 1
    )
    verdicts = [
        Verdict.model_validate_json(line)
        for line in (out / "validation.jsonl").read_text().splitlines()
    ]
    assert not any(verdict.accepted for verdict in verdicts)


def test_a_killed_command_goes_on_where_it_was(faulty_taskset: Path, tmp_path: Path):
    """SIGTERM while the first task is graded: its verdict stays, the exit code says stopped."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "sandbox.validate", str(faulty_taskset), "--runs", "2"]
    command += ["--jobs", "1", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        process.terminate()
        process.stdout.read()
    assert process.returncode in (1, 3)
    assert lines_of(out)[0] == "pair/good"
    assert subprocess.run(command, stdout=subprocess.PIPE, timeout=120).returncode == 1
    events = [event for _, event in read_events(out / "events.jsonl")]
    again = [event for event in events if isinstance(event, TaskJudged)][-2:]
    assert [(event.task_id, event.accepted) for event in again] == [
        ("pair/good", True),
        ("pair/idle", False),
    ]
    assert again[0].known
    assert events[-1].status == "finished"


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
