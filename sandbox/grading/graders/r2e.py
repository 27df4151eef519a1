"""R2E-Gym rows by R2E-Gym's rule: the image's own run_tests.sh, its printed summary equal to `expected_output_json`.

The names are R2E-Gym's (`sandbox.grading.summary.r2e_name`), and every status must be as expected, those that
are expected to fail too. Added to that rule: a canary test that must fail, and the checks of
`sandbox.grading.summary`. A run script that does not collect whole of r2e_tests by pytest shows no canary, so
its task does not pass validation.
"""

import secrets

from sandbox.errors import SandboxGone
from sandbox.grading.graders import MAX_LOG_BYTES, TEST_ENV, Job
from sandbox.grading.summary import judge_summary, r2e_name
from sandbox.grading.verdict import Verdict, mismatch
from sandbox.snapshot import pack

_LAY_TIMEOUT_S = 60.0
_LAY = "rm -rf r2e_tests run_tests.sh; tar -xf - --no-same-owner"
_ADD = "mkdir -p r2e_tests; tar -xf - --no-same-owner -C r2e_tests"


def grade_r2e(job: Job) -> tuple[Verdict, bytes]:
    """See `Grader`."""
    canary = f"test_{secrets.token_hex(6)}"
    files = {**job.task.tests, f"{canary}.py": f"def {canary}():\n    assert 1 + 1 == 3\n"}
    _lay(job, _LAY, job.hidden)
    _lay(job, _ADD, pack({name: text.encode() for name, text in files.items()}))
    result = job.sandbox.exec(
        ["sh", "-c", "exec bash run_tests.sh 2>&1"],
        env=TEST_ENV,
        timeout_s=job.timeout_s,
        max_output_bytes=MAX_LOG_BYTES,
    )
    expected = {name.split(" - ")[0]: s for name, s in job.task.expected_output.items()}

    def compare(statuses: dict[str, str]) -> tuple[dict[str, str], str]:
        tests = {r2e_name(node): status for node, status in statuses.items()}
        return tests, mismatch(tests, expected)

    return judge_summary(result, canary, job.flags, compare), result.stdout


def _lay(job: Job, script: str, archive: bytes) -> None:
    result = job.sandbox.exec(["sh", "-c", script], stdin=archive, timeout_s=_LAY_TIMEOUT_S)
    if not result.ok:
        raise SandboxGone(
            f"sandbox {job.sandbox.id}: hidden tests not laid: {result.stderr[-300:]!r}"
        )
