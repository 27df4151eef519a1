"""Rows of SWE-smith: `patch` is what breaks a working repository, and undoing it is the gold patch.

The image holds the repository unbroken. The files of the tests that must go from failing to passing
are taken out of it before the agent starts, as the published branches do.
"""

import json

from sandbox.rows.fields import Row
from sandbox.rows.patches import reverse_patch
from sandbox.task import Task


def read_swesmith(row: Row, taskset: str) -> Task:
    """One SWE-smith row. Raises RowError."""
    fixed, kept = row.some_texts("FAIL_TO_PASS"), row.texts("PASS_TO_PASS")
    broken = row.text("patch")
    try:
        gold = reverse_patch(broken)
    except ValueError as error:
        raise row.error("patch", f"needs a git patch of text files: {error}") from error
    return Task(
        task_id=f"{taskset}/{row.text('instance_id')}",
        repo_name=row.text("repo"),
        docker_image=row.text("image_name"),
        problem_statement=row.text("problem_statement"),
        expected_output_json=json.dumps(dict.fromkeys(fixed + kept, "PASSED"), sort_keys=True),
        gold_patch=gold,
        setup_patch=broken,
        split="train",
        grading="swesmith",
        hidden_files=sorted({test.partition("::")[0] for test in fixed}),
        FAIL_TO_PASS=fixed,
        PASS_TO_PASS=kept,
    )
