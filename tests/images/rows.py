"""Rows about the bug fixes of `tests.images.history`, in the schemas of R2E-Gym, SWE-bench and SWE-smith.

The rows are kept in `published/`, one file a schema; `python -m tests.images.rows` writes them anew. The
statuses in them are what pytest gives for the commit before and after the fix.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from sandbox.grading.summary import r2e_name, read_summary
from tests.images.history import Fix, git, names, play

PUBLISHED = Path(__file__).parent / "published"

RUN_TESTS = (
    "PYTHONWARNINGS='ignore::UserWarning,ignore::SyntaxWarning' "
    ".venv/bin/python -W ignore -m pytest -rA r2e_tests\n"
)


def image_name(fix: Fix, kind: str) -> str:
    """As published images are called: `r2e` and `swesmith` by repository and commit, `swebench` by instance."""
    if kind == "swebench":
        return f"studio-tests/sweb.eval.x86_64.{instance_id(fix)}:latest"
    return f"studio-tests/{fix.repo}_{kind}:{fix.commit}"


def instance_id(fix: Fix) -> str:
    return f"shop__{fix.name}"


def r2e_row(fix: Fix, worktree: Path) -> dict[str, Any]:
    codes = [fix.file(path, fixed=True) for path in fix.test_files]
    names = [f"test_{number}.py" for number in range(1, len(codes) + 1)]
    tests = dict(zip(names, codes, strict=True))
    commit = {
        "file_diffs": [_file_diff(fix, path) for path in (*fix.fixed_files, *fix.test_files)],
        "old_commit_hash": fix.parent,
        "new_commit_hash": fix.commit,
        "commit_message": fix.subject,
        "commit_date": git(fix.repository, "show", "-s", "--format=%aI", fix.commit).strip(),
    }
    execution = {
        "repo_name": fix.repo,
        "new_commit_hash": fix.commit,
        "test_file_names": names,
        "test_file_codes": codes,
    }
    after = _statuses(fix, worktree, fix.commit, tests, ["r2e_tests"])
    patch = fix.patch(tests=False)
    lines = [
        line for line in patch.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    return {
        "repo_name": fix.repo,
        "docker_image": image_name(fix, "r2e"),
        "commit_hash": fix.commit,
        "parsed_commit_content": json.dumps(commit),
        "execution_result_content": json.dumps(execution),
        "modified_files": list(fix.fixed_files),
        "modified_entity_summaries": [],
        "relevant_files": list(fix.fixed_files),
        "num_non_test_files": len(fix.fixed_files),
        "num_non_test_func_methods": 1,
        "num_non_test_lines": len(lines),
        "prompt": "",
        "problem_statement": f"[ISSUE]\n{fix.issue}[/ISSUE]\n",
        "expected_output_json": json.dumps({r2e_name(node): s for node, s in after.items()}),
    }


@cache
def changed_tests(fix: Fix, worktree: Path) -> tuple[list[str], list[str]]:
    """Node ids of the tests that the fix makes pass, and of those that pass before it too."""
    tests = {path: fix.file(path, fixed=True) for path in fix.test_files}
    before = _statuses(fix, worktree, fix.parent, tests, list(fix.test_files))
    after = _statuses(fix, worktree, fix.commit, tests, list(fix.test_files))
    fixed = [node for node, status in after.items() if before.get(node) != status]
    return fixed, [node for node in after if node not in fixed]


def swebench_row(fix: Fix, worktree: Path) -> dict[str, Any]:
    # Published ids end at their first space, where swebench's parsers cut them.
    fixed, kept = (
        list(dict.fromkeys(node.split()[0] for node in nodes))
        for nodes in changed_tests(fix, worktree)
    )
    return {
        "repo": f"shop/{fix.repo}",
        "instance_id": instance_id(fix),
        "base_commit": fix.parent,
        "patch": fix.patch(tests=False),
        "test_patch": fix.patch(tests=True),
        "problem_statement": fix.issue,
        "hints_text": "",
        "created_at": "2024-03-01T09:00:00Z",
        "version": "1.0",
        "FAIL_TO_PASS": json.dumps(fixed),
        "PASS_TO_PASS": json.dumps(kept),
        "environment_setup_commit": fix.parent,
        "difficulty": "<15 min fix",
        "image": image_name(fix, "swebench"),
        "eval_script": _eval_script(fix),
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
    }


def swesmith_row(fix: Fix, worktree: Path) -> dict[str, Any]:
    fixed, kept = changed_tests(fix, worktree)
    return {
        "instance_id": f"{instance_id(fix)}.lm_rewrite__x1",
        "patch": git(fix.repository, "diff", fix.commit, fix.parent, "--", *fix.fixed_files),
        "FAIL_TO_PASS": fixed,
        "PASS_TO_PASS": kept,
        "image_name": image_name(fix, "swesmith"),
        "repo": f"swesmith/shop__{fix.name}",
        "problem_statement": fix.issue,
        "created_at": "2024-03-01T09:00:00Z",
    }


def _file_diff(fix: Fix, path: str) -> dict[str, Any]:
    return {
        "header": {"file": {"path": path}, "misc_line": None},
        "is_binary_file": False,
        "hunks": [],
        "old_file_content": fix.file(path, fixed=False),
        "new_file_content": fix.file(path, fixed=True),
    }


def _eval_script(fix: Fix) -> str:
    """In the shape of published run scripts: put the tests back, patch them, run them between two marks."""
    files = " ".join(fix.test_files)
    return f"""#!/bin/bash
set -uxo pipefail
export PATH=/opt/python/bin:$PATH
cd /testbed
git config --global --add safe.directory /testbed
git status
git checkout {fix.parent} {files}
git apply -v - <<'EOF_114329324912'
{fix.patch(tests=True)}EOF_114329324912
: '>>>>> Start Test Output'
python -m pytest -rA -p no:cacheprovider {files}
: '>>>>> End Test Output'
git checkout {fix.parent} {files}
"""


def _statuses(
    fix: Fix, worktree: Path, commit: str, tests: dict[str, str], chosen: list[str]
) -> dict[str, str]:
    """Node id -> status of a run of `chosen` on `commit`, with `tests` laid over it."""
    if not worktree.exists():
        git(fix.repository, "worktree", "add", "-q", "--detach", str(worktree))
    git(worktree, "checkout", "-q", "-f", "--detach", commit)
    git(worktree, "clean", "-fdxq")
    for name, text in tests.items():
        path = worktree / (name if "/" in name else f"r2e_tests/{name}")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *chosen],
        cwd=worktree,
        env={"PATH": os.environ["PATH"], "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        timeout=120,
    )
    return {node: status for status, node in read_summary(done.stdout).lines}


SCHEMAS: dict[str, Callable[[Fix, Path], dict[str, Any]]] = {
    "r2e": r2e_row,
    "swebench": swebench_row,
    "swesmith": swesmith_row,
}


def make_rows(schema: str, fixes: list[Fix], worktrees: Path) -> str:
    """The file of one schema, as text."""
    rows = (SCHEMAS[schema](fix, worktrees / fix.repo) for fix in fixes)
    return "".join(json.dumps(row) + "\n" for row in rows)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fixes = [fix for repo in names() for fix in play(repo, folder / repo)]
        PUBLISHED.mkdir(exist_ok=True)
        for schema in SCHEMAS:
            text = make_rows(schema, fixes, folder / "worktrees")
            (PUBLISHED / f"{schema}.jsonl").write_text(text)


if __name__ == "__main__":
    main()
