"""Tasks from outside in pods, on a node that can be given their images: the same grades, nothing hidden in reach."""

import os
from pathlib import Path

import pytest

from sandbox.base import Backend, SandboxLabels
from sandbox.environment import Grade, grade
from sandbox.limits import Limits, spec_of
from sandbox.task import Task
from tests.cluster.containerd import Containerd
from tests.images.build import load_into
from tests.sandbox.outside.conftest import LoadTaskset

pytestmark = pytest.mark.k8s


@pytest.fixture(scope="module")
def with_images(kubernetes_backend: Backend, built) -> Backend:
    folder = os.environ.get("STUDIO_TEST_NODE")
    if not folder:
        pytest.skip("needs the node that make cluster-test starts: it is given the images")
    load_into(Containerd(Path(folder)), built)
    return kubernetes_backend


@pytest.fixture
def graded(with_images: Backend, labels: SandboxLabels, limits: Limits):
    def grade_patch(task: Task, patch: str) -> Grade:
        return grade(task, patch.encode(), with_images, labels=labels, limits=limits)

    return grade_patch


@pytest.mark.parametrize("schema", ["r2e", "swebench", "swesmith"])
def test_gold_passes_and_nothing_fails_in_a_pod(schema: str, taskset: LoadTaskset, graded) -> None:
    if schema == "swebench":
        pytest.importorskip("swebench")
    task = taskset(schema).tasks[0]
    gold, empty = graded(task, task.gold_patch), graded(task, "")
    assert (gold.reward, gold.tests) == (1.0, task.expected_output), gold
    assert (empty.reward, set(empty.tests)) == (0.0, set(gold.tests)), empty


@pytest.mark.parametrize("repo", ["ledger", "typeset"])
def test_hidden_tests_and_the_fix_are_nowhere_in_the_pod(
    repo: str, taskset: LoadTaskset, with_images: Backend, labels: SandboxLabels, limits: Limits
) -> None:
    task = next(task for task in taskset("r2e").tasks if task.repo_name == repo)
    sandbox = with_images.create(spec_of(task, labels=labels, limits=limits))
    try:
        script = (
            "find / '(' -name 'test_1.py' -o -name run_tests.sh ')' 2>/dev/null; ls -A /r2e_tests;"
            f"git cat-file -t {task.commit_hash}; git rev-list --all | wc -l; git tag; git remote"
        )
        result = sandbox.exec(["bash", "-c", script], timeout_s=60)
        assert result.stdout.split() == [b"1"], result
    finally:
        sandbox.close()
