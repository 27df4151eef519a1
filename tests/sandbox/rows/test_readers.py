"""Rows in the published schemas into tasks, and what each faulty row is told."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sandbox.rows import detect_schema, read_row
from sandbox.rows.fields import RowError
from sandbox.rows.patches import file_patch, is_test_path, reverse_patch
from sandbox.task import TasksetError

OLD = "def total(prices):\n    return sum(prices) - 1\n"
NEW = "def total(prices):\n    return sum(prices)\n"
PATCH = file_patch("till.py", OLD, NEW)


def r2e_row(**changes: Any) -> dict[str, Any]:
    """All columns of R2E-Gym-Subset, Lite and V1."""
    commit = {
        "file_diffs": [
            file_diff("till.py", OLD, NEW),
            file_diff("tests/test_till.py", "", "def test_total(): ...\n"),
        ],
        "old_commit_hash": "a" * 40,
        "new_commit_hash": "b" * 40,
        "commit_message": "Count every price",
        "commit_date": "2024-05-01T10:00:00",
    }
    execution = {
        "repo_name": "till",
        "new_commit_hash": "b" * 40,
        "test_file_names": ["test_1.py"],
        "test_file_codes": ["def test_total(): ...\n"],
        "old_commit_res_stdout": "",
        "new_commit_res_stdout": "",
    }
    row = {
        "repo_name": "till",
        "docker_image": f"namanjain12/till_final:{'b' * 40}",
        "commit_hash": "b" * 40,
        "parsed_commit_content": json.dumps(commit),
        "execution_result_content": json.dumps(execution),
        "modified_files": ["till.py"],
        "modified_entity_summaries": [
            {
                "ast_type_str": "FunctionDef",
                "end_lineno": 2,
                "file_name": "till.py",
                "name": "total",
                "start_lineno": 1,
                "type": "function",
            }
        ],
        "relevant_files": ["till.py"],
        "num_non_test_files": 1,
        "num_non_test_func_methods": 1,
        "num_non_test_lines": 2,
        "prompt": "Write an issue about this commit.",
        "problem_statement": "[ISSUE]\nThe total is one too small.\n[/ISSUE]\n",
        "expected_output_json": '{"test_total": "PASSED"}',
    }
    return row | changes


def file_diff(path: str, old: str, new: str, misc: str | None = None) -> dict[str, Any]:
    return {
        "header": {"file": {"path": path}, "misc_line": misc},
        "is_binary_file": False,
        "hunks": [],
        "old_file_content": old,
        "new_file_content": new,
    }


def swebench_row(**changes: Any) -> dict[str, Any]:
    """All columns of SWE-bench Verified, as `swebench` 5 reads them; Lite has no `difficulty`."""
    row = {
        "repo": "shop/till",
        "instance_id": "shop__till-7",
        "base_commit": "a" * 40,
        "patch": PATCH,
        "test_patch": file_patch("tests/test_till.py", None, "def test_total(): ...\n"),
        "problem_statement": "The total is one too small.",
        "hints_text": "",
        "created_at": "2024-05-01T10:00:00Z",
        "version": "1.0",
        "FAIL_TO_PASS": '["tests/test_till.py::test_total"]',
        "PASS_TO_PASS": '["tests/test_till.py::test_empty"]',
        "environment_setup_commit": "a" * 40,
        "difficulty": "<15 min fix",
        "image": "swebench/sweb.eval.x86_64.shop_1776_till-7:latest",
        "eval_script": "#!/bin/bash\nset -uxo pipefail\ncd /testbed\n",
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
    }
    return row | changes


def swesmith_row(**changes: Any) -> dict[str, Any]:
    """All columns of SWE-smith."""
    row = {
        "instance_id": "shop__till.1a2b3c4d.lm_rewrite__x1",
        "patch": file_patch("till.py", NEW, OLD),
        "FAIL_TO_PASS": ["tests/test_till.py::test_total"],
        "PASS_TO_PASS": ["tests/test_more.py::test_empty"],
        "image_name": "jyangballin/swesmith.x86_64.shop_1776_till.1a2b3c4d",
        "repo": "swesmith/shop__till.1a2b3c4d",
        "problem_statement": "The total is one too small.",
        "created_at": "2025-05-01T10:00:00Z",
    }
    return row | changes


def test_an_r2e_row_keeps_its_fields_and_gains_tests_and_a_gold_patch() -> None:
    task = read_row("r2e", 1, r2e_row(), "mine")
    assert (task.task_id, task.repo_name) == (f"mine/till-{'b' * 12}", "till")
    assert task.docker_image == f"namanjain12/till_final:{'b' * 40}"
    assert task.problem_statement == "The total is one too small."
    assert task.expected_output == {"test_total": "PASSED"}
    assert task.tests == {"test_1.py": "def test_total(): ...\n"}
    assert (task.grading, task.hidden_files) == ("r2e", ["r2e_tests", "run_tests.sh"])
    assert task.modified_entity_summaries[0]["name"] == "total"
    assert task.gold_patch == PATCH
    assert "Write an issue" not in task.model_dump_json()


def test_a_swebench_row_keeps_what_swebench_grades_by() -> None:
    task = read_row("swebench", 1, swebench_row(), "mine")
    assert task.task_id == "mine/shop__till-7"
    assert task.FAIL_TO_PASS == ["tests/test_till.py::test_total"]
    assert task.PASS_TO_PASS == ["tests/test_till.py::test_empty"]
    assert set(task.expected_output.values()) == {"PASSED"}
    assert (task.grading, task.log_parser, task.base_commit) == (
        "swebench",
        "parse_log_pytest",
        "a" * 40,
    )
    assert task.gold_patch == PATCH
    assert not task.hidden_files


def test_a_swesmith_row_is_broken_by_its_patch_and_mended_by_the_reverse() -> None:
    task = read_row("swesmith", 1, swesmith_row(), "mine")
    assert task.setup_patch == file_patch("till.py", NEW, OLD)
    assert task.gold_patch == PATCH
    assert task.hidden_files == ["tests/test_till.py"]


def test_benchmarks_are_held_out_and_the_rest_is_trained_on() -> None:
    assert read_row("swebench", 1, swebench_row(), "mine").split == "heldout"
    assert read_row("r2e", 1, r2e_row(), "mine").split == "train"
    assert read_row("swesmith", 1, swesmith_row(), "mine").split == "train"


@pytest.mark.parametrize("read", [r2e_row, swebench_row, swesmith_row])
def test_the_schema_is_known_by_the_columns(read: Any) -> None:
    assert detect_schema(read()) == read.__name__.removesuffix("_row")


def test_unknown_columns_are_refused_with_those_that_were_looked_for() -> None:
    with pytest.raises(TasksetError, match="columns a, b: of no known schema.*test_patch"):
        detect_schema({"a": 1, "b": 2})


FAULTY = [
    ("r2e", r2e_row(docker_image=None), "docker_image=None: needs a text"),
    ("r2e", r2e_row(expected_output_json="{}"), "names no test"),
    ("r2e", r2e_row(expected_output_json="{"), "needs JSON"),
    ("r2e", r2e_row(expected_output_json='{"a": "XFAIL"}'), "status 'XFAIL'"),
    ("r2e", r2e_row(modified_files="till.py"), "modified_files='till.py': needs JSON"),
    ("r2e", r2e_row(parsed_commit_content='{"file_diffs": [{}]}'), "no header.file.path"),
    ("r2e", r2e_row(execution_result_content='{"test_file_names": ["a"]}'), "1 test names and 0"),
    ("r2e", r2e_row(num_non_test_lines="2"), "needs a whole number"),
    ("swebench", swebench_row(FAIL_TO_PASS="[]"), "FAIL_TO_PASS='[]': needs at least one name"),
    ("swebench", swebench_row(eval_script=None), "eval_script=None: swebench 5 needs it"),
    ("swebench", swebench_row(eval_type="any"), "eval_type='any': needs one of pass_and_fail"),
    ("swesmith", swesmith_row(problem_statement=""), "problem_statement='': needs a text"),
    ("swesmith", swesmith_row(patch="GIT binary patch\n"), "needs a git patch of text files"),
    ("swesmith", swesmith_row(image_name=7), "image_name=7"),
]


@pytest.mark.parametrize(("schema", "row", "said"), FAULTY)
def test_a_faulty_row_is_told_row_field_value_and_remedy(
    schema: str, row: dict[str, Any], said: str
) -> None:
    with pytest.raises(RowError) as raised:
        read_row(schema, 12, row, "mine")
    assert str(raised.value).startswith("row 12: ")
    assert said in str(raised.value)
    assert raised.value.field in str(raised.value)


def test_test_files_are_told_from_the_fix() -> None:
    assert all(map(is_test_path, ["tests/a.py", "pkg/test/b.py", "test_c.py", "d_test.py"]))
    assert not any(map(is_test_path, ["pkg/a.py", "attest.py", "contest/b.py", "docs/testing.md"]))


TEXTS = [
    ("a\nb\nc\n", "a\nB\nc\n"),
    ("a\nb", "a\nc"),
    ("a\n", "a"),
    ("x\n" * 20 + "a\n" + "y\n" * 20 + "b\n", "x\n" * 20 + "A\n" + "y\n" * 20 + "-- b\n"),
    ("a\x0cb\r\nc\n", "a\x0cb\r\nd\n"),
    ("-- old\n++ same\n", "++ same\n"),
]


@pytest.mark.parametrize(("old", "new"), TEXTS)
def test_git_applies_a_made_patch_and_its_reverse(tmp_path: Path, old: str, new: str) -> None:
    patch = file_patch("a.txt", old, new)
    assert applied(tmp_path, patch, old) == new
    assert applied(tmp_path, reverse_patch(patch), new) == old


def test_git_makes_and_deletes_files_by_made_patches(tmp_path: Path) -> None:
    made = file_patch("a.txt", None, "one\ntwo\n")
    assert applied(tmp_path, made, None) == "one\ntwo\n"
    assert applied(tmp_path, reverse_patch(made), "one\ntwo\n") is None
    assert applied(tmp_path, file_patch("a.txt", "one\n", None), "one\n") is None


def applied(folder: Path, patch: str, old: str | None) -> str | None:
    """What git makes of `a.txt`; None stands for no file."""
    path = folder / "a.txt"
    path.unlink(missing_ok=True)
    if old is not None:
        path.write_bytes(old.encode())
    subprocess.run(
        ["git", "apply", "-p1", "-"], cwd=folder, input=patch.encode(), check=True, timeout=20
    )
    return path.read_bytes().decode() if path.exists() else None
