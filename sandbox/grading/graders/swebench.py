"""SWE-bench rows by PyPI's `swebench`: its run script, its log parsers, its report. No parser of ours.

`swebench` is imported when a row is graded; its parsers run in a process of their own. What is ours is
the sandbox: no network, an ordinary user, and what steers the test runner put back first. The log is
printed text, as it is in `swebench` itself.
"""

from dataclasses import asdict
from typing import Any

from sandbox.errors import OUTCOME_OF_END, Outcome, TasksetError
from sandbox.grading.graders import MAX_LOG_BYTES, Job
from sandbox.grading.graders.swebench_report import TIMEOUT_S, UnreadableLog, ask
from sandbox.grading.verdict import ENDS, Verdict, mismatch
from sandbox.task import Task

_SCRIPT = "/tmp/eval.sh"  # noqa: S108
_NO_REPORT = {
    "patch_is_None": False,
    "patch_exists": True,
    "patch_successfully_applied": False,
    "resolved": False,
    "infra_failure": False,
}


def grade_swebench(job: Job) -> tuple[Verdict, bytes]:
    """See `Grader`."""
    script = test_spec(job.task).eval_script
    job.sandbox.write(_SCRIPT, script.encode(), 0o755)
    result = job.sandbox.exec(
        ["sh", "-c", f"exec bash {_SCRIPT} 2>&1"],
        timeout_s=job.timeout_s,
        max_output_bytes=MAX_LOG_BYTES,
    )
    outcome = OUTCOME_OF_END[result.end]
    tests: dict[str, str] = {}
    if outcome is Outcome.INFRA:
        reason = f"The sandbox ended under the tests ({result.end})."
    elif result.end in ENDS:
        reason = ENDS[result.end]
    else:
        tests, reason = _read(job.task, report_of(job.task, job.patch, result.stdout))
    reward = None if outcome is Outcome.INFRA else 0.0 if reason else 1.0
    verdict = Verdict(
        reward=reward,
        outcome=outcome,
        tests=tests,
        flags=job.flags | ({"truncated_output"} if result.stdout_truncated else set()),
        reason=reason or f"Resolved: all {len(tests)} tests as expected.",
    )
    return verdict, result.stdout


def test_spec(task: Task) -> Any:
    """What `swebench` makes of the task's row. Raises TasksetError."""
    try:
        from swebench.harness.log_parsers import PARSER_REGISTRY
        from swebench.harness.utils import make_test_spec
    except ImportError as error:
        raise TasksetError(
            f"{task.task_id}: grading needs PyPI's swebench: {error}: "
            "pip install 'swebench>=5.0.2,<6'"
        ) from error
    if task.log_parser not in PARSER_REGISTRY:
        raise TasksetError(
            f"{task.task_id}: log_parser={task.log_parser!r}: "
            "not known to this version of swebench: install the one that the row was made for"
        )
    row = {
        "instance_id": instance_id(task),
        "image": task.docker_image,
        "repo": task.repo_name,
        "version": task.version,
        "FAIL_TO_PASS": task.FAIL_TO_PASS,
        "PASS_TO_PASS": task.PASS_TO_PASS,
        "log_parser": task.log_parser,
        "eval_type": task.eval_type,
        "eval_script": task.eval_script,
    }
    return make_test_spec(row)


def instance_id(task: Task) -> str:
    """The row's name, as predictions call it."""
    return task.task_id.rpartition("/")[2]


def report_of(task: Task, patch: bytes, log: bytes) -> dict[str, Any]:
    """`swebench`'s report on one prediction, from the log of its run script. When it makes none: not resolved, and why under
    `unreadable`. Raises TasksetError, SandboxGone.
    """
    spec = asdict(test_spec(task))
    prediction = {
        "instance_id": instance_id(task),
        "model_patch": patch.decode("utf-8", "replace"),
        "model_name_or_path": "studio",
    }
    try:
        return ask(spec, prediction, log.decode("utf-8", "replace"), timeout_s=TIMEOUT_S)
    except UnreadableLog as error:
        return _NO_REPORT | {"unreadable": str(error)}


def _read(task: Task, report: dict[str, Any]) -> tuple[dict[str, str], str]:
    """The status of each test that is named, and what is wrong with them."""
    if "unreadable" in report:
        return {}, f"swebench cannot read the test output: {report['unreadable']}."
    if "tests_status" not in report:
        return {}, "swebench found no test output that it believes."
    tests = {
        name: status
        for kind in ("FAIL_TO_PASS", "PASS_TO_PASS")
        for word, status in (("success", "PASSED"), ("failure", "FAILED"))
        for name in report["tests_status"][kind][word]
    }
    if report["resolved"]:
        return tests, ""
    return tests, mismatch(tests, task.expected_output) or "swebench does not call it resolved."
