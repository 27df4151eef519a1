"""Rows of SWE-bench (Verified, Lite, and others of its family) as PyPI's `swebench` 5 reads them.

Such a row names its image, run script and log parser. Rows from before have none of these; they are
refused, since there would be nothing to grade them with.
"""

import json

from sandbox.rows.fields import Row
from sandbox.task import Task

_EVAL_TYPES = ("pass_and_fail", "fail_only")
_REMEDY = "swebench 5 needs it: take the datasets published as SWE-bench/..., not the older ones"


def read_swebench(row: Row, taskset: str) -> Task:
    """One SWE-bench row. Raises RowError."""
    for field in ("image", "eval_script", "log_parser", "eval_type"):
        if not row.optional_text(field):
            raise row.error(field, _REMEDY)
    if row.text("eval_type") not in _EVAL_TYPES:
        raise row.error("eval_type", f"needs one of {', '.join(_EVAL_TYPES)}")
    fixed, kept = row.some_texts("FAIL_TO_PASS"), row.texts("PASS_TO_PASS")
    return Task(
        task_id=f"{taskset}/{row.text('instance_id')}",
        repo_name=row.text("repo"),
        docker_image=row.text("image"),
        base_commit=row.text("base_commit"),
        problem_statement=row.text("problem_statement"),
        expected_output_json=json.dumps(dict.fromkeys(fixed + kept, "PASSED"), sort_keys=True),
        gold_patch=row.optional_text("patch"),
        split="heldout",
        grading="swebench",
        version=row.optional_text("version"),
        FAIL_TO_PASS=fixed,
        PASS_TO_PASS=kept,
        test_patch=row.text("test_patch"),
        eval_script=row.text("eval_script"),
        log_parser=row.text("log_parser"),
        eval_type=row.text("eval_type"),
    )
