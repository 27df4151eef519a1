"""What an image holds beside its repository is nowhere while the agent runs: hidden tests, and git's future."""

from pathlib import Path

import pytest

from sandbox.base import Sandbox, SandboxLabels
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.errors import SandboxUnavailable
from sandbox.limits import Limits, spec_of
from sandbox.task import Task
from sandbox.unpack import find
from tests.images.history import git, names, play
from tests.images.rows import PUBLISHED, SCHEMAS, make_rows
from tests.sandbox.outside.conftest import LoadTaskset


def run(sandbox: Sandbox, script: str) -> list[str]:
    result = sandbox.exec(["bash", "-c", script], timeout_s=60)
    return result.stdout.decode().splitlines()


def one_of_each(taskset: LoadTaskset, schema: str) -> list[Task]:
    """The first task of each repository."""
    return list(
        {task.repo_name.rpartition("/")[2]: task for task in taskset(schema).tasks}.values()
    )


def future_of(built: Path, repo: str) -> set[str]:
    """Every commit of a repository's history."""
    return set(git(built / "repositories" / repo, "rev-list", "--all").split())


@pytest.mark.parametrize("repo", ["ledger", "timetable", "typeset"])
def test_hidden_tests_are_nowhere_before_grading(
    repo: str,
    taskset: LoadTaskset,
    unpacked: BubblewrapBackend,
    labels: SandboxLabels,
    limits: Limits,
) -> None:
    task = next(task for task in taskset("r2e").tasks if task.repo_name == repo)
    sandbox = unpacked.create(spec_of(task, labels=labels, limits=limits))
    try:
        found = "find / -xdev '(' -name 'r2e_tests*' -o -name 'run_tests.sh' ')' 2>/dev/null"
        assert run(sandbox, found) == []
        fresh = set(task.expected_output) - set(
            run(sandbox, "grep -rhoE 'test_\\w+' tests | sort -u")
        )
        hidden = next(name for name in sorted(fresh) if "[" not in name)
        assert (
            run(sandbox, f"grep -rl {hidden} / --exclude-dir=proc --exclude-dir=sys 2>/dev/null")
            == []
        )
        assert run(sandbox, f"git log --all -S{hidden} --oneline") == []
    finally:
        sandbox.close()


@pytest.mark.parametrize("schema", ["r2e", "swebench", "swesmith"])
def test_git_holds_the_base_commit_and_nothing_else(
    schema: str,
    built: Path,
    taskset: LoadTaskset,
    unpacked: BubblewrapBackend,
    labels: SandboxLabels,
    limits: Limits,
) -> None:
    task = one_of_each(taskset, schema)[0]
    repo = next(r for r in ("ledger", "timetable", "typeset") if r in task.task_id)
    sandbox = unpacked.create(spec_of(task, labels=labels, limits=limits))
    try:
        present = run(sandbox, "git cat-file --batch-all-objects --batch-check='%(objectname)'")
        kept = {task.base_commit} if task.base_commit else set()
        assert set(present) & future_of(built, repo) == kept
        assert len(run(sandbox, "git rev-list --all")) == 1
        assert run(sandbox, "git tag; git remote; git stash list; git reflog --all") == []
        assert run(sandbox, "git for-each-ref --format='%(refname)'") == ["refs/heads/main"]
        assert run(sandbox, "git status --porcelain") == []
        assert run(sandbox, "git fsck --unreachable --no-reflogs 2>&1 | grep -v '^notice'") == []
        assert run(sandbox, "ls") != []
    finally:
        sandbox.close()


def test_a_swesmith_repository_is_broken_and_lacks_its_failing_tests(
    taskset: LoadTaskset, unpacked: BubblewrapBackend, labels: SandboxLabels, limits: Limits
) -> None:
    task = taskset("swesmith").tasks[0]
    sandbox = unpacked.create(spec_of(task, labels=labels, limits=limits))
    try:
        assert run(sandbox, "ls tests") == ["test_journal.py"]
        assert "cents = int(fraction or 0)" in "".join(run(sandbox, "cat ledger/amounts.py"))
        assert sandbox.diff() == b""
    finally:
        sandbox.close()
    assert b"tests/test_amounts.py" in unpacked.hidden_files(
        spec_of(task, labels=labels, limits=limits)
    )


def test_what_the_agent_changes_is_its_patch_alone(
    taskset: LoadTaskset, unpacked: BubblewrapBackend, labels: SandboxLabels, limits: Limits
) -> None:
    task = taskset("r2e").tasks[0]
    sandbox = unpacked.create(spec_of(task, labels=labels, limits=limits))
    try:
        sandbox.write("/testbed/new.py", b"new = 1\n")
        patch = sandbox.diff().decode()
    finally:
        sandbox.close()
    assert [line for line in patch.splitlines() if line.startswith("diff")] == [
        "diff --git a/new.py b/new.py"
    ]


def test_an_image_that_is_not_unpacked_is_named_with_the_remedy(
    taskset: LoadTaskset, unpacked: BubblewrapBackend, labels: SandboxLabels, limits: Limits
) -> None:
    task = taskset("r2e").tasks[0].model_copy(update={"docker_image": "nobody/none:1"})
    with pytest.raises(SandboxUnavailable, match="python -m sandbox.unpack nobody/none:1"):
        unpacked.create(spec_of(task, labels=labels, limits=limits))


def test_a_base_commit_that_the_image_lacks_is_refused(
    taskset: LoadTaskset, unpacked: BubblewrapBackend, labels: SandboxLabels, limits: Limits
) -> None:
    task = taskset("swebench").tasks[0].model_copy(update={"base_commit": "f" * 40})
    with pytest.raises(SandboxUnavailable, match="base commit"):
        unpacked.create(spec_of(task, labels=labels, limits=limits))


def test_rows_name_the_images_that_were_built(built: Path, taskset: LoadTaskset) -> None:
    for schema in SCHEMAS:
        tasks = taskset(schema).tasks
        assert len(tasks) >= 12
        assert all(find(task.docker_image, built / "images") for task in tasks)


@pytest.mark.slow
def test_the_kept_rows_are_what_the_repositories_give(built: Path, tmp_path: Path) -> None:
    """Statuses by real runs, of the newest fix of each repository."""
    for repo in names():
        fix = play(repo, tmp_path / repo)[-1]
        for schema in SCHEMAS:
            made = make_rows(schema, [fix], tmp_path / "worktrees")
            assert made in (PUBLISHED / f"{schema}.jsonl").read_text()
