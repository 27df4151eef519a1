"""Tasks from outside on a Docker engine: the same grades, nothing hidden in reach, and `swebench`'s own report."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sandbox.base import SandboxLabels
from sandbox.docker.backend import DockerBackend
from sandbox.environment import Grade, grade
from sandbox.limits import Limits, spec_of
from sandbox.task import Task
from sandbox.unpack import unpack
from tests.images.swebench_process import predictions, run_evaluation
from tests.sandbox.outside.conftest import LoadTaskset

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def docker(engine: str) -> Iterator[DockerBackend]:
    backend = DockerBackend(base_url=engine)
    yield backend
    backend.close()


@pytest.fixture
def graded(docker: DockerBackend, labels: SandboxLabels, limits: Limits):
    def grade_patch(task: Task, patch: str) -> Grade:
        return grade(task, patch.encode(), docker, labels=labels, limits=limits)

    return grade_patch


@pytest.mark.parametrize("schema", ["r2e", "swesmith"])
def test_gold_passes_and_nothing_fails_in_a_container(
    schema: str, taskset: LoadTaskset, graded
) -> None:
    task = taskset(schema).tasks[0]
    gold, empty = graded(task, task.gold_patch), graded(task, "")
    assert (gold.reward, gold.tests) == (1.0, task.expected_output), gold
    assert (empty.reward, set(empty.tests)) == (0.0, set(gold.tests)), empty


@pytest.mark.parametrize("repo", ["ledger", "typeset"])
def test_hidden_tests_and_the_fix_are_nowhere_in_the_container(
    repo: str,
    taskset: LoadTaskset,
    docker: DockerBackend,
    labels: SandboxLabels,
    limits: Limits,
) -> None:
    task = next(task for task in taskset("r2e").tasks if task.repo_name == repo)
    sandbox = docker.create(spec_of(task, labels=labels, limits=limits))
    try:
        script = (
            "find / '(' -name 'test_1.py' -o -name run_tests.sh ')' 2>/dev/null; ls -A /r2e_tests;"
            f"git cat-file -t {task.commit_hash}; git rev-list --all | wc -l; git tag; git remote"
        )
        result = sandbox.exec(["bash", "-c", script], timeout_s=60)
        assert result.stdout.split() == [b"1"], result
    finally:
        sandbox.close()


def test_an_image_of_an_engine_is_unpacked_for_bubblewrap(
    engine: str, taskset: LoadTaskset, tmp_path: Path
) -> None:
    task = taskset("r2e").tasks[0]
    folder = unpack(task.docker_image, engine=engine, images=tmp_path)
    assert (folder / "testbed" / ".git" / "HEAD").is_file()
    assert (folder / "r2e_tests" / "test_1.py").is_file()
    assert (folder / "usr" / "bin" / "git").is_file()


def test_our_report_equals_that_of_swebench(
    engine: str, taskset: LoadTaskset, graded, tmp_path: Path
) -> None:
    """Every field of every instance's report, and which instances are resolved, unresolved, in error or empty."""
    pytest.importorskip("swebench")
    tasks = taskset("swebench").tasks
    patches = predictions(tasks)
    with ThreadPoolExecutor(1) as beside:
        evaluation = beside.submit(run_evaluation, engine, patches, tmp_path)
        ours = our_reports(tasks, patches, graded)
        theirs, summary = evaluation.result()
    assert ours == theirs
    assert (
        sorted(name for name, report in ours.items() if report["resolved"])
        == summary["resolved_ids"]
    )
    assert sorted(set(ours) - set(summary["resolved_ids"])) == summary["unresolved_ids"]
    assert (
        sorted(name for name, patch in patches.items() if not patch) == summary["empty_patch_ids"]
    )
    assert (
        sorted(set(patches) - set(ours) - set(summary["empty_patch_ids"])) == summary["error_ids"]
    )
    assert summary["resolved_ids"]
    assert summary["unresolved_ids"]
    assert summary["error_ids"]


def our_reports(tasks: list[Task], patches: dict[str, str], graded) -> dict[str, dict[str, Any]]:
    """Instance -> its report, of those whose patch is not empty and applies."""
    from sandbox.grading.graders.swebench import report_of

    reports: dict[str, dict[str, Any]] = {}
    for task in tasks:
        name = task.task_id.rpartition("/")[2]
        grade_of = graded(task, patches[name])
        if patches[name] and "does not apply" not in grade_of.reason:
            reports[name] = report_of(task, patches[name].encode(), grade_of.log)
            assert grade_of.reward == float(reports[name]["resolved"])
    return reports
