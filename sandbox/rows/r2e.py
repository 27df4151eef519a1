"""Rows of R2E-Gym (Subset, Lite, V1): the schema is `DatasetRow` of github.com/R2E-Gym/R2E-Gym.

The gold patch is not a column: it is made from the texts that `parsed_commit_content` holds of every
file before and after the commit, its tests left out. The hidden tests are in `execution_result_content`.
"""

import json
from typing import Any

from sandbox.rows.fields import Row, RowError
from sandbox.rows.patches import file_patch, is_test_path
from sandbox.task import Task

HIDDEN = ["r2e_tests", "run_tests.sh"]
_STATUSES = {"PASSED", "FAILED", "ERROR"}


def read_r2e(row: Row, taskset: str) -> Task:
    """One R2E-Gym row. Raises RowError."""
    commit_hash, repo_name = row.text("commit_hash"), row.text("repo_name")
    commit = row.json_object("parsed_commit_content")
    return Task(
        task_id=f"{taskset}/{repo_name}-{commit_hash[:12]}",
        repo_name=repo_name,
        docker_image=row.text("docker_image"),
        commit_hash=commit_hash,
        problem_statement=_issue(row.text("problem_statement")),
        expected_output_json=_expected(row),
        modified_files=row.texts("modified_files"),
        relevant_files=row.texts("relevant_files"),
        num_non_test_files=row.number_of("num_non_test_files"),
        num_non_test_func_methods=row.number_of("num_non_test_func_methods"),
        num_non_test_lines=row.number_of("num_non_test_lines"),
        modified_entity_summaries=_summaries(row),
        tests=_tests(row),
        gold_patch=_gold(row, commit),
        split="train",
        grading="r2e",
        hidden_files=HIDDEN,
    )


def _issue(statement: str) -> str:
    """What lies between the issue's marks; all of it where there are none."""
    _, opened, rest = statement.partition("[ISSUE]")
    return rest.partition("[/ISSUE]")[0].strip() if opened else statement


def _expected(row: Row) -> str:
    row.text("expected_output_json")
    expected = row.json_object("expected_output_json")
    if not expected:
        raise row.error("expected_output_json", "names no test: an empty set would pass anything")
    wrong = {status for status in expected.values() if status not in _STATUSES}
    if wrong:
        raise row.error(
            "expected_output_json", f"has status {wrong.pop()!r}: only PASSED, FAILED and ERROR are"
        )
    return json.dumps(expected, sort_keys=True)


def _summaries(row: Row) -> list[dict[str, Any]]:
    value = row.values.get("modified_entity_summaries") or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise row.error("modified_entity_summaries", "needs a list of objects")
    return [{key: item[key] for key in item if item[key] is not None} for item in value]


def _tests(row: Row) -> dict[str, str]:
    execution = row.json_object("execution_result_content")
    names, codes = execution.get("test_file_names", []), execution.get("test_file_codes", [])
    if len(names) != len(codes):
        raise row.error(
            "execution_result_content", f"has {len(names)} test names and {len(codes)} test files"
        )
    return dict(zip(names, codes, strict=True))


def _gold(row: Row, commit: dict[str, Any]) -> str:
    return "".join(
        _file_gold(row, diff)
        for diff in commit.get("file_diffs", [])
        if not is_test_path(_path(row, diff))
    )


def _file_gold(row: Row, diff: dict[str, Any]) -> str:
    old, new = diff.get("old_file_content"), diff.get("new_file_content")
    change = diff["header"].get("misc_line") or ""
    if not diff.get("is_binary_file") and isinstance(old, str) and isinstance(new, str):
        gone = change.startswith("deleted file")
        made = change.startswith("new file")
        return file_patch(_path(row, diff), None if made else old, None if gone else new)
    raise _faulty(row, _path(row, diff), "has no text before and after: leave the row out")


def _path(row: Row, diff: dict[str, Any]) -> str:
    try:
        return str(diff["header"]["file"]["path"])
    except (KeyError, TypeError) as error:
        raise _faulty(row, diff, "a file_diffs entry has no header.file.path") from error


def _faulty(row: Row, value: object, remedy: str) -> RowError:
    return RowError(row.number, "parsed_commit_content", value, remedy)
