"""The bundled starter taskset: its counts, its rules, and that its tasks grade as they should."""

import ast
import builtins
import io
import keyword
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath

import pytest

from sandbox.events import EventWriter
from sandbox.task import Task, load_taskset
from sandbox.validate import Validation, grader
from sandbox.verdicts import Verdict

TASKS = load_taskset("starter").tasks
WORDS = {"easy": (45, 90), "middle": (70, 135), "hard": (60, 140)}
"""Least and most words and punctuation marks of a statement; the model's tokens are about 1.1 x."""
LINES = (4, 34)
"""Least and most lines of a repository's Python file."""
IN_THE_PROMPT = [
    ["-    return w + h", "+    return w * h"],
    ["-    return age > 18", "+    return age >= 18"],
]
"""The bugs of the two worked examples in the starter's prompt."""
each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.repo_name)


def removed_lines(task: Task) -> list[tuple[str, str]]:
    """(file, stripped line) for every line that the gold patch takes out."""
    found, file = [], ""
    for line in task.gold_patch.splitlines():
        if line.startswith("--- a/"):
            file = line.removeprefix("--- a/")
        elif line.startswith("-"):
            found.append((file, line[1:].strip()))
    return found


def bugs(task: Task) -> list[tuple[str, ...]]:
    """The removed and added lines of each hunk of the gold patch, anonymous."""
    hunks = re.split(r"^@@.*$", task.gold_patch, flags=re.MULTILINE)[1:]
    return [
        anonymous([line for line in hunk.splitlines() if re.match(r"[-+](?![-+]{2} )", line)])
        for hunk in hunks
    ]


def anonymous(lines: list[str]) -> tuple[str, ...]:
    """`-return a + len(b)` -> `- return n0 + len ( n1 )`: the same for every choice of names."""
    names: dict[str, str] = {}
    result = []
    for line in lines:
        words, before = [line[0]], ""
        for token in tokens(line[1:].strip()):
            word = token.string
            own = token.type == tokenize.NAME and before != "." and not keyword.iskeyword(word)
            known = hasattr(builtins, word)
            words.append(names.setdefault(word, f"n{len(names)}") if own and not known else word)
            before = word
        result.append(" ".join(words).strip())
    return tuple(result)


def tokens(code: str) -> Iterator[tokenize.TokenInfo]:
    try:
        yield from tokenize.generate_tokens(io.StringIO(code + "\n").readline)
    except tokenize.TokenError:  # a line that opens a bracket and closes it on a later line
        return


def python_files(task: Task) -> dict[str, str]:
    return {path: source for path, source in task.files.items() if path.endswith(".py")}


def functions(task: Task) -> list[str]:
    return [
        node.name
        for source in python_files(task).values()
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]


def repeated(names: list[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def test_counts_by_split_and_difficulty():
    counts = Counter((task.split, task.difficulty) for task in TASKS)
    assert counts == {
        ("train", "easy"): 24,
        ("train", "middle"): 14,
        ("train", "hard"): 12,
        ("heldout", "easy"): 22,
        ("heldout", "middle"): 14,
        ("heldout", "hard"): 11,
    }


def test_no_two_tasks_share_a_name_a_module_or_a_function():
    assert repeated([task.task_id for task in TASKS]) == []
    assert repeated([path for task in TASKS for path in python_files(task)]) == []
    assert repeated([name for task in TASKS for name in functions(task)]) == []


def test_no_two_tasks_share_a_faulty_line():
    assert repeated([line for task in TASKS for _, line in removed_lines(task)]) == []


def test_no_held_out_bug_is_in_train_under_other_names():
    train, heldout = (
        {bug for task in TASKS if task.split == split for bug in bugs(task)}
        for split in ("train", "heldout")
    )
    assert train & heldout == set()


def test_no_task_has_a_bug_of_the_prompt():
    assert {bug for task in TASKS for bug in bugs(task)}.isdisjoint(map(anonymous, IN_THE_PROMPT))


@each_task
def test_each_faulty_line_can_be_replaced_by_its_text(task: Task):
    for path, line in removed_lines(task):
        assert task.files[path].count(line) == 1


@each_task
def test_statement_has_the_size_and_shape_of_its_difficulty(task: Task):
    least, most = WORDS[task.difficulty or ""]
    assert least <= len(re.findall(r"\w+|[^\w\s]", task.problem_statement)) <= most
    assert ("```python" in task.problem_statement) == (task.difficulty != "hard")
    assert all(f"/testbed/{path}" in task.problem_statement for path in task.modified_files)


@each_task
def test_statement_shows_the_function_as_it_is(task: Task):
    for shown in re.findall(r"```python\n(.*?)```", task.problem_statement, flags=re.DOTALL):
        assert shown in task.files[task.modified_files[0]]


@each_task
def test_expected_output_names_every_hidden_test(task: Task):
    tests = re.findall(r"^def (test_\w+)", task.tests["test_1.py"], flags=re.MULTILINE)
    assert list(task.tests) == ["test_1.py"]
    assert 3 <= len(tests) <= 6
    assert task.expected_output == dict.fromkeys(tests, "PASSED")


@each_task
def test_files_are_short_and_shadow_no_standard_module(task: Task):
    for path, source in python_files(task).items():
        assert LINES[0] <= len(source.splitlines()) <= LINES[1]
        assert PurePosixPath(path).stem not in sys.stdlib_module_names


@each_task
def test_row_describes_its_gold_patch(task: Task):
    files = re.findall(r"^--- a/(.*)$", task.gold_patch, flags=re.MULTILINE)
    edited = re.findall(r"^[-+](?![-+]{2} )", task.gold_patch, flags=re.MULTILINE)
    assert sorted(files) == task.modified_files
    assert len(files) == task.num_non_test_files
    assert len(edited) == task.num_non_test_lines
    assert sorted(python_files(task)) == task.relevant_files


def validated(tasks: list[Task], folder: Path, *, runs: int) -> list[Verdict]:
    with closing(EventWriter(folder)) as events:
        validation = Validation(tasks, folder, runs=runs, backend="bubblewrap", events=events)
        return validation.run(grader("bubblewrap"), jobs=2)


def test_gold_passes_and_empty_fails_on_a_sample(tmp_path: Path):
    verdicts = validated(TASKS[::8][:12], tmp_path, runs=1)
    assert len(verdicts) == 12
    assert [(verdict.task_id, verdict.reason) for verdict in verdicts if not verdict.accepted] == []


@pytest.mark.slow
def test_every_task_grades_the_same_three_times(tmp_path: Path):
    verdicts = validated(TASKS, tmp_path, runs=3)
    assert [(verdict.task_id, verdict.reason) for verdict in verdicts if not verdict.accepted] == []
