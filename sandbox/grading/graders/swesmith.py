"""SWE-smith rows: every test of FAIL_TO_PASS and PASS_TO_PASS must have passed; what other tests do is not looked at.

The files of these tests are run by the image's own pytest, in its conda environment `testbed` where
there is one. A canary test and the checks of `sandbox.grading.summary` are added.
"""

import secrets

from sandbox.errors import SandboxGone
from sandbox.grading.graders import MAX_LOG_BYTES, TEST_ENV, Job
from sandbox.grading.summary import judge_summary
from sandbox.grading.verdict import Verdict, mismatch

_LAY_TIMEOUT_S = 60.0
_RUN = """
activate=/opt/miniconda3/bin/activate
if [ -e "$activate" ]; then . "$activate" testbed; fi
exec python -m pytest -rA --tb=short --color=no -p no:cacheprovider "$@" 2>&1
"""


def grade_swesmith(job: Job) -> tuple[Verdict, bytes]:
    """See `Grader`."""
    canary = f"test_{secrets.token_hex(6)}"
    lay = f'tar -xf - --no-same-owner && printf "%s" "$1" > {canary}.py'
    test = f"def {canary}():\n    assert 1 + 1 == 3\n"
    laid = job.sandbox.exec(
        ["sh", "-c", lay, "sh", test], stdin=job.hidden, timeout_s=_LAY_TIMEOUT_S
    )
    if not laid.ok:
        raise SandboxGone(f"sandbox {job.sandbox.id}: tests not laid: {laid.stderr[-300:]!r}")
    named = job.task.FAIL_TO_PASS + job.task.PASS_TO_PASS
    files = sorted({test.partition("::")[0] for test in named})
    result = job.sandbox.exec(
        ["bash", "-c", _RUN, "bash", *files, f"{canary}.py"],
        env=TEST_ENV,
        timeout_s=job.timeout_s,
        max_output_bytes=MAX_LOG_BYTES,
    )
    expected = job.task.expected_output

    def compare(statuses: dict[str, str]) -> tuple[dict[str, str], str]:
        tests = {name: status for name, status in statuses.items() if name in expected}
        return tests, mismatch(tests, expected)

    return judge_summary(result, canary, job.flags, compare), result.stdout
