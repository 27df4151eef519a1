"""Tasks that bring their hidden tests: our own runner lays them and reports over a channel of its own."""

import json
import secrets

from sandbox.errors import TasksetError
from sandbox.grading.graders import MAX_LOG_BYTES, TEST_ENV, Job
from sandbox.grading.verdict import Verdict, judge


def grade_reported(job: Job) -> tuple[Verdict, bytes]:
    """See `Grader`."""
    task = job.task
    if not task.tests:
        raise TasksetError(
            f"{task.task_id}: tests is empty: a task needs its hidden tests to be graded"
        )
    word, canary = secrets.token_hex(16), f"test_{secrets.token_hex(6)}"
    tests = {**task.tests, f"{canary}.py": f"def {canary}():\n    assert 1 + 1 == 3\n"}
    result = job.sandbox.exec(
        ["python3", "-I", "/opt/tools/run_tests.py"],
        stdin=json.dumps({"word": word, "tests": tests}).encode(),
        env=TEST_ENV,
        timeout_s=job.timeout_s,
        max_output_bytes=MAX_LOG_BYTES,
    )
    return judge(result, word, canary, task.expected_output, job.flags), result.stderr
