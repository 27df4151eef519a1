"""Tasks and tasksets: what an agent is asked to do and how it is judged. Light: standard library and pydantic only.

A `Task` has the fields of an R2E-Gym row (github.com/R2E-Gym/R2E-Gym, `DatasetRow`) plus what a bundled taskset needs to
stand alone (the repository's files, the hidden tests, the gold patch) and what rows of SWE-bench and SWE-smith add. A
taskset is a folder. One that `python -m sandbox.load` wrote holds its tasks in one file, and the images hold the repositories:

    taskset.toml             name, description
    tasks.jsonl              one `Task` a line

A bundled one is written by hand:

    taskset.toml             name, description, docker_image
    <task name>/task.toml    difficulty, split, problem_statement, expected_output (test -> PASSED|FAILED|ERROR)
    <task name>/repo/...     the repository as the agent finds it
    <task name>/tests/...    the hidden tests, laid under r2e_tests/ when a patch is graded, and only then
    <task name>/gold.patch   a git patch (-p1) that makes the tests pass

Nothing here runs a task: that is `sandbox.environment`.
"""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sandbox.errors import TasksetError as TasksetError

Difficulty = Literal["easy", "middle", "hard"]
Split = Literal["train", "heldout"]
Grading = Literal["reported", "r2e", "swebench", "swesmith"]
BUNDLED = Path(__file__).parent / "tasks"
TASKS_FILE = "tasks.jsonl"


class Task(BaseModel):
    """One task. Field names that R2E-Gym has are R2E-Gym's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task_id: str
    """Stable name, unique within its taskset: `starter/off-by-one-range`."""
    repo_name: str
    docker_image: str
    commit_hash: str = ""
    problem_statement: str
    """The issue that the agent reads, as Markdown."""
    expected_output_json: str
    """JSON object of test -> PASSED | FAILED | ERROR; the reward is 1 when the run gives exactly this."""
    modified_files: list[str] = Field(default_factory=list)
    relevant_files: list[str] = Field(default_factory=list)
    num_non_test_files: int = 0
    num_non_test_func_methods: int = 0
    num_non_test_lines: int = 0
    modified_entity_summaries: list[dict[str, Any]] = Field(default_factory=list)
    parsed_commit_content: str = ""
    execution_result_content: str = ""
    prompt: str = ""
    difficulty: Difficulty | None = None
    split: Split | None = None
    files: dict[str, str] = Field(default_factory=dict, repr=False)
    """The repository by relative path; empty when the image holds it."""
    tests: dict[str, str] = Field(default_factory=dict, repr=False)
    """Hidden tests by file name, laid under r2e_tests/ for grading."""
    gold_patch: str = Field(default="", repr=False)
    grading: Grading = "reported"
    """How a patch is judged: `sandbox.grading` has one grader for each."""
    grading_timeout_s: float | None = Field(default=None, gt=0)
    """Of the whole test run; None for the limit of the run that grades."""
    hidden_files: list[str] = Field(default_factory=list)
    """Paths below /testbed that the image holds and the agent must not see: gone before it starts, back for grading."""
    setup_patch: str = Field(default="", repr=False)
    """Applied to the image's repository before the agent starts: what breaks it, in a SWE-smith row."""
    base_commit: str = ""
    """The commit that the image's repository must keep, when grading names it; else it becomes a single new commit."""
    version: str = ""
    FAIL_TO_PASS: list[str] = Field(default_factory=list, repr=False)
    PASS_TO_PASS: list[str] = Field(default_factory=list, repr=False)
    test_patch: str = Field(default="", repr=False)
    eval_script: str = Field(default="", repr=False)
    """The run script of a SWE-bench row; `log_parser` and `eval_type` say how `swebench` reads its output."""
    log_parser: str = ""
    eval_type: str = ""

    @property
    def expected_output(self) -> dict[str, str]:
        """Test name -> status. Raises TasksetError when it is empty or not a JSON object."""
        try:
            expected = json.loads(self.expected_output_json)
        except json.JSONDecodeError as error:
            raise TasksetError(
                f"{self.task_id}: expected_output_json is not JSON: {error}"
            ) from error
        if not isinstance(expected, dict) or not expected:
            raise TasksetError(
                f"{self.task_id}: expected_output_json is empty: name at least one test and its status"
            )
        return expected


class Taskset(BaseModel):
    """A named list of tasks with unique ids."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str = ""
    tasks: list[Task]

    def __len__(self) -> int:
        return len(self.tasks)

    def select(
        self,
        *,
        split: Split | None = None,
        difficulties: tuple[Difficulty, ...] = (),
        limit: int = 0,
    ) -> list[Task]:
        """Tasks in their order, of one split and of the given difficulties (all when empty), `limit` at most (0: all)."""
        chosen = [
            task
            for task in self.tasks
            if (split is None or task.split == split)
            and (not difficulties or task.difficulty in difficulties)
        ]
        return chosen[:limit] if limit else chosen


def load_taskset(name_or_path: str) -> Taskset:
    """A bundled taskset by name, or any taskset folder by path. Raises TasksetError naming the file and the remedy."""
    root = BUNDLED / name_or_path if (BUNDLED / name_or_path).is_dir() else Path(name_or_path)
    manifest = root / "taskset.toml"
    if not manifest.is_file():
        bundled = ", ".join(sorted(p.parent.name for p in BUNDLED.glob("*/taskset.toml"))) or "none"
        raise TasksetError(
            f"taskset {name_or_path!r}: {manifest} not found; bundled tasksets: {bundled}"
        )
    header = _read_toml(manifest)
    if (root / TASKS_FILE).is_file():
        return _taskset(header, list(_read_tasks(root / TASKS_FILE)))
    tasks = [
        _load_task(folder, header)
        for folder in sorted(root.iterdir())
        if (folder / "task.toml").is_file()
    ]
    if not tasks:
        raise TasksetError(f"taskset {name_or_path!r}: no <task>/task.toml below {root}")
    return _taskset(header, tasks)


def _taskset(header: dict[str, Any], tasks: list[Task]) -> Taskset:
    return Taskset(name=header["name"], description=header.get("description", ""), tasks=tasks)


def _read_tasks(path: Path) -> Iterator[Task]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield Task.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                raise TasksetError(
                    f"{path}: line {number}: {'.'.join(map(str, first['loc']))} {first['msg']}; "
                    "load the taskset again with python -m sandbox.load"
                ) from error


def _load_task(folder: Path, header: dict[str, Any]) -> Task:
    row = _read_toml(folder / "task.toml")
    expected = row.pop("expected_output", {})
    files = dict(_read_tree(folder / "repo"))
    gold = folder / "gold.patch"
    row.setdefault("modified_files", [])
    try:
        return Task(
            task_id=f"{header['name']}/{folder.name}",
            repo_name=row.pop("repo_name", folder.name),
            docker_image=row.pop("docker_image", header["docker_image"]),
            expected_output_json=json.dumps(expected, sort_keys=True),
            files=files,
            tests=dict(_read_tree(folder / "tests")),
            gold_patch=gold.read_text() if gold.is_file() else "",
            **row,
        )
    except (ValidationError, TypeError) as error:
        raise TasksetError(f"{folder / 'task.toml'}: {error}") from error


def _read_tree(root: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(root).as_posix(), path.read_text()


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TasksetError(f"{path}: not readable as TOML: {error}") from error
