"""What `swebench` makes of logs that code under test has written: one that it cannot read resolves nothing and ends nothing."""

import time
from dataclasses import asdict

import pytest

from sandbox.grading.graders import swebench
from sandbox.grading.graders.swebench_report import UnreadableLog, ask
from sandbox.rows import read_row
from sandbox.task import Task
from tests.sandbox.rows.test_readers import swebench_row

pytest.importorskip("swebench")

TESTS = "tests/test_till.py::test_total", "tests/test_till.py::test_empty"


def row(parser: str = "parse_log_pytest") -> Task:
    return read_row("swebench", 1, swebench_row(log_parser=parser), "mine")


def log(text: str) -> bytes:
    return f">>>>> Start Test Output\n{text}\n>>>>> End Test Output\n".encode()


def test_a_report_is_swebenchs_own() -> None:
    report = swebench.report_of(
        row(), b"a patch", log("".join(f"PASSED {name}\n" for name in TESTS))
    )
    assert report["resolved"]
    assert report["tests_status"]["FAIL_TO_PASS"] == {"success": [TESTS[0]], "failure": []}


@pytest.mark.parametrize(
    ("parser", "text", "said"),
    [
        ("parse_log_django", "ERROR:", "IndexError"),
        (
            "parse_log_pytest",
            f"PASSED {TESTS[0]}\n>>>>> Test Exit Code: {'9' * 5000}",
            "ValueError",
        ),
    ],
)
def test_a_log_on_which_a_parser_raises_is_not_resolved(parser: str, text: str, said: str) -> None:
    report = swebench.report_of(row(parser), b"a patch", log(text))
    assert not report["resolved"]
    assert said in report["unreadable"]


def test_a_log_that_takes_a_parser_hours_is_given_up() -> None:
    spec = asdict(swebench.test_spec(row("parse_log_sympy")))
    prediction = {"instance_id": "mine", "model_patch": "", "model_name_or_path": "studio"}
    began = time.monotonic()
    with pytest.raises(UnreadableLog, match="did not end within 8 s"):
        ask(spec, prediction, log("_ " * 500_000).decode(), timeout_s=8)
    assert time.monotonic() - began < 30
