"""From one test run to a reward: pure, so that every rule can be tested by hand-made reports.

The rules: the expected ids, no more and no fewer, each with its status; pytest's exit code and its
count of tests agree with the statuses read; a canary test that must fail did fail. Anything else is
reward 0 with a reason of one sentence.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sandbox.base import ExecResult
from sandbox.errors import OUTCOME_OF_END, End, Outcome

_PASSES_ALONE = re.compile(
    rb"^(=+ )?\d+ passed(, \d+ \w+)* in |^PASSED |^(?=\S+::\S)\S+ PASSED", re.M
)
"""What pytest never prints here: the canary fails in every run, and no report of passes is asked for. Linear: the log
is the code's under test.
"""
_TESTS_FAILED = 1
"""pytest's exit code when tests ran and some failed: the canary always does."""


@dataclass(kw_only=True)
class Report:
    """What the runner reported by its own channel."""

    statuses: dict[str, str] = field(default_factory=dict)
    """pytest's node id -> PASSED, FAILED, ERROR, SKIPPED, XFAIL or XPASS."""
    collected: list[str] = field(default_factory=list)
    end_code: int | None = None
    lies: list[str] = field(default_factory=list)
    """Node ids reported as passed although they raised."""
    left: bool = False
    """Something called exit() while pytest was at work outside a test."""
    foreign_lines: int = 0
    """Lines on the channel without the run's word, or with no JSON after it: cut off, or somebody else wrote there."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    reward: float | None
    outcome: Outcome
    tests: dict[str, str]
    flags: frozenset[str]
    reason: str


def read_report(channel: bytes, word: str) -> Report:
    """The report on `channel`; what is no line of `word` and JSON is counted and believed in nothing."""
    report = Report()
    for line in channel.decode("utf-8", "replace").splitlines():
        lead, _, rest = line.partition(" ")
        row = _parsed(rest) if lead == word else None
        if row is None:
            report.foreign_lines += 1
        else:
            _take(report, row)
    return report


def _parsed(text: str) -> list[object] | None:
    """None for what is no JSON list, or one nested or numbered beyond reason."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, list) else None


def _take(report: Report, row: list[object]) -> None:
    match row:
        case ["test", str(node), str(when), str(outcome), bool(xfail)]:
            status = _status(when, outcome, xfail)
            worse = status in ("FAILED", "ERROR") or node not in report.statuses
            if worse:
                report.statuses[node] = status
        case ["collected", list(nodes)]:
            report.collected = [str(node) for node in nodes]
        case ["lie", str(node)]:
            report.lies.append(node)
        case ["left"]:
            report.left = True
        case ["end", int(code)]:
            report.end_code = code


def _status(when: str, outcome: str, xfail: bool) -> str:
    if xfail:
        return "XPASS" if outcome == "passed" else "XFAIL"
    if outcome == "skipped":
        return "SKIPPED"
    if when != "call":
        return "ERROR"
    return "PASSED" if outcome == "passed" else "FAILED"


def named(statuses: Mapping[str, str], canary: str) -> dict[str, str]:
    """R2E-Gym's names (node id after the first `::`, joined by dots) of what passed, failed or
    broke; the canary left out.
    """
    tests: dict[str, str] = {}
    for node, status in statuses.items():
        name = ".".join(node.split("::")[1:])
        if canary in node or status not in ("PASSED", "FAILED", "ERROR"):
            continue
        if name not in tests or status != "PASSED":
            tests[name] = status
    return tests


def judge(
    result: ExecResult, word: str, canary: str, expected: Mapping[str, str], flags: frozenset[str]
) -> Verdict:
    """The verdict on one run. `canary` is part of the node id of the test that must fail."""
    report = read_report(result.stdout, word)
    tests = named(report.statuses, canary)
    found = set(flags)
    if report.foreign_lines:
        found.add("forged_log")
    if report.left or (report.end_code is None and result.exit_code == 0):
        found.add("early_exit")
    if result.stdout_truncated or result.stderr_truncated:
        found.add("truncated_output")
    outcome = OUTCOME_OF_END[result.end]
    if outcome is Outcome.INFRA:
        return Verdict(
            reward=None,
            outcome=outcome,
            tests={},
            flags=frozenset(found),
            reason=f"The sandbox ended under the tests ({result.end}).",
        )
    canary_statuses = {status for node, status in report.statuses.items() if canary in node}
    if report.lies or "PASSED" in canary_statuses:
        found.add("tampered")
        reason = "A test that must fail was reported as passed: the patch steers the test runner."
    else:
        if _PASSES_ALONE.search(result.stderr):
            found.add("forged_log")
        reason = _doubt(result, report, canary_statuses) or mismatch(tests, expected)
    return Verdict(
        reward=0.0 if reason else 1.0,
        outcome=outcome,
        tests=tests,
        flags=frozenset(found),
        reason=reason or _passed(expected),
    )


ENDS = {
    End.TIMEOUT: "The tests did not finish in time.",
    End.OOM: "The tests ran out of memory.",
    End.OUTPUT_LIMIT: "The tests printed too much and were stopped.",
}
"""How a run can end without its tests having ended."""


def _doubt(result: ExecResult, report: Report, canary_statuses: set[str]) -> str:
    """Why the run as a whole is not believed; empty if it is."""
    if result.end in ENDS:
        return ENDS[result.end]
    if report.end_code is None:
        return f"The test run ended early, with exit code {result.exit_code}."
    if result.exit_code != report.end_code or report.end_code != _TESTS_FAILED:
        return (
            f"pytest's exit code {report.end_code} does not agree with the statuses read "
            f"(process exit code {result.exit_code})."
        )
    if canary_statuses != {"FAILED"}:
        return "The canary test did not run."
    if set(report.collected) != set(report.statuses):
        return (
            f"pytest collected {len(report.collected)} tests and reported {len(report.statuses)}."
        )
    return ""


def mismatch(tests: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """How the statuses differ from those expected, in one sentence; empty when they do not."""
    wrong = [name for name in expected if name in tests and tests[name] != expected[name]]
    missing = [name for name in expected if name not in tests]
    extra = [name for name in tests if name not in expected]
    if wrong:
        first = wrong[0]
        return (
            f"{len(wrong)} of {len(expected)} tests not as expected: "
            f"{first} {tests[first]}, wanted {expected[first]}."
        )
    if missing:
        return (
            f"{len(missing)} of {len(expected)} expected tests did not run, {missing[0]} for one."
        )
    return f"{len(extra)} tests ran that are not expected, {extra[0]} for one." if extra else ""


def _passed(expected: Mapping[str, str]) -> str:
    return f"All {len(expected)} tests as expected."
