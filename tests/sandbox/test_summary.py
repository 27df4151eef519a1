"""What is read from pytest's printed summary, and what is not believed of it."""

import pytest

from sandbox.base import ExecResult
from sandbox.errors import End, Outcome
from sandbox.grading.summary import judge_summary, r2e_name, read_summary
from sandbox.grading.verdict import Verdict

HEADER = "=========================== short test summary info ============================\n"
CANARY = "FAILED r2e_tests/test_canary.py::test_canary - assert (1 + 1) == 3\n"
GOOD = (
    "r2e_tests/test_1.py ..F\n"
    + HEADER
    + "PASSED r2e_tests/test_1.py::test_a\n"
    + "PASSED r2e_tests/test_1.py::TestB::test_c[x - y]\n"
    + CANARY
    + "=================== 1 failed, 2 passed, 3 warnings in 0.12s ====================\n"
)


def judged(
    log: str, *, end: End = End.EXITED, exit_code: int | None = 1, truncated: bool = False
) -> Verdict:
    result = ExecResult(
        stdout=log.encode(),
        stderr=b"",
        end=end,
        exit_code=exit_code,
        duration_s=0.1,
        stdout_truncated=truncated,
    )

    def compare(statuses: dict[str, str]) -> tuple[dict[str, str], str]:
        return statuses, "" if "FAILED" not in statuses.values() else "One failed."

    return judge_summary(result, "test_canary", frozenset(), compare)


def test_lines_and_counts_are_read_and_reasons_cut_off() -> None:
    summary = read_summary(GOOD.encode())
    assert summary.lines == (
        ("PASSED", "r2e_tests/test_1.py::test_a"),
        ("PASSED", "r2e_tests/test_1.py::TestB::test_c[x"),
        ("FAILED", "r2e_tests/test_canary.py::test_canary"),
    )
    assert summary.counts == {"FAILED": 1, "PASSED": 2}
    assert summary.num_headers == 1


def test_colours_are_no_part_of_a_name() -> None:
    coloured = f"{HEADER}\x1b[32mPASSED\x1b[0m a.py::\x1b[1mtest_a\x1b[0m\r\n"
    assert read_summary(coloured.encode()).lines == (("PASSED", "a.py::test_a"),)


def test_a_log_without_a_summary_gives_nothing() -> None:
    assert read_summary(b"\xff no tests ran").lines == ()


def test_names_are_those_of_r2e_gym() -> None:
    assert r2e_name("r2e_tests/test_1.py::TestB::test_c[1]") == "TestB.test_c[1]"
    assert r2e_name("r2e_tests/test_1.py") == ""


def test_a_whole_run_as_expected_earns_one() -> None:
    verdict = judged(GOOD)
    assert (verdict.reward, verdict.flags) == (1.0, frozenset())
    assert len(verdict.tests) == 2


@pytest.mark.parametrize(
    ("log", "exit_code", "said", "flags"),
    [
        ("", 1, "holds 0 test summaries", set()),
        (GOOD + GOOD, 1, "holds 2 test summaries", {"forged_log"}),
        (GOOD.replace(CANARY, ""), 1, "The canary test did not run", set()),
        (GOOD.replace("FAILED", "PASSED"), 0, "steers the test runner", {"tampered"}),
        (GOOD.replace("2 passed", "1 passed"), 1, "pytest counted", set()),
        (GOOD.replace("=== 1 failed", "# 1 failed"), 1, "pytest counted nothing", set()),
        (GOOD, 0, "Exit code 0 does not agree", set()),
        (GOOD.replace("2 passed", f"{'9' * 5000} passed"), 1, "pytest counted nothing", set()),
    ],
)
def test_what_does_not_agree_is_not_believed(
    log: str, exit_code: int, said: str, flags: set[str]
) -> None:
    verdict = judged(log, exit_code=exit_code)
    assert (verdict.reward, verdict.flags) == (0.0, flags)
    assert said in verdict.reason


def test_a_run_without_an_end_is_not_believed_and_a_lost_sandbox_is_infra() -> None:
    assert "in time" in judged(GOOD, end=End.TIMEOUT, exit_code=None).reason
    assert judged(GOOD, end=End.OOM, exit_code=None).outcome is Outcome.TASK
    gone = judged(GOOD, end=End.SANDBOX_GONE, exit_code=None)
    assert (gone.reward, gone.outcome) == (None, Outcome.INFRA)


def test_a_cut_log_is_flagged() -> None:
    assert judged(GOOD, truncated=True).flags == {"truncated_output"}
