"""What pytest prints at the end of a run: the lines of its short test summary, and its count. Pure.

The log is text that code under test can write into, so a summary is believed only as a whole: there is
one and no more, its lines agree with pytest's count, the canary test failed and the exit code says so.
That narrows forgery down; it does not end it, as docs/sandbox.md says. Runs that report over a channel
of their own are `sandbox.grading.verdict`'s.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from sandbox.base import ExecResult
from sandbox.errors import OUTCOME_OF_END, Outcome
from sandbox.grading.verdict import ENDS, Verdict

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\r")
_HEADER = re.compile(r"^=+ short test summary info =+$", re.MULTILINE)
_LINE = re.compile(r"^(PASSED|FAILED|ERROR)\s+(\S.*)$")
_COUNT = re.compile(r"^(?:=+ )?((?:\d{1,9} [a-z]+, )*\d{1,9} [a-z]+) in [\d.]+s")
_COUNTED = {"passed": "PASSED", "failed": "FAILED", "error": "ERROR", "errors": "ERROR"}
_TESTS_FAILED = 1


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One printed summary."""

    lines: tuple[tuple[str, str], ...]
    """(status, node id with pytest's reason cut off)."""
    num_headers: int
    counts: dict[str, int] | None
    """Status -> tests, as pytest's last line says; None when there is none."""


def read_summary(log: bytes) -> Summary:
    """The last summary of a log; empty when there is none."""
    text = _ANSI.sub("", log.decode("utf-8", "replace"))
    headers = list(_HEADER.finditer(text))
    below = text[headers[-1].end() :].splitlines() if headers else []
    found = [match for line in below if (match := _LINE.match(line))]
    counts = [_counts(match[1]) for line in below if (match := _COUNT.match(line))]
    return Summary(
        lines=tuple((match[1], match[2].split(" - ")[0].rstrip()) for match in found),
        num_headers=len(headers),
        counts=counts[-1] if counts else None,
    )


def _counts(text: str) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for part in text.split(", "):
        number, word = part.split(" ")
        if word in _COUNTED:
            counts[_COUNTED[word]] += int(number)
    return dict(counts)


def r2e_name(node: str) -> str:
    """R2E-Gym's name of a test: what follows the first `::`, joined by dots; "" for a file that broke."""
    return ".".join(node.split("::")[1:])


def judge_summary(
    result: ExecResult,
    canary: str,
    flags: frozenset[str],
    compare: Callable[[dict[str, str]], tuple[dict[str, str], str]],
) -> Verdict:
    """The verdict on one run whose log is `result.stdout`. `compare` takes node id -> status, the canary left out, and
    gives the tests to show and what is wrong with them.
    """
    outcome = OUTCOME_OF_END[result.end]
    if outcome is Outcome.INFRA:
        reason = f"The sandbox ended under the tests ({result.end})."
        return Verdict(reward=None, outcome=outcome, tests={}, flags=flags, reason=reason)
    summary = read_summary(result.stdout)
    statuses = {node: status for status, node in summary.lines if canary not in node}
    tests, wrong = compare(statuses)
    canaries = {status for status, node in summary.lines if canary in node}
    found = set(flags)
    if "PASSED" in canaries:
        found.add("tampered")
    if summary.num_headers > 1:
        found.add("forged_log")
    if result.stdout_truncated:
        found.add("truncated_output")
    reason = _doubt(result, summary, canaries) or wrong
    return Verdict(
        reward=0.0 if reason else 1.0,
        outcome=outcome,
        tests=tests,
        flags=frozenset(found),
        reason=reason or f"All {len(tests)} tests as expected.",
    )


def _doubt(result: ExecResult, summary: Summary, canaries: set[str]) -> str:
    """Why the run as a whole is not believed; empty if it is."""
    if result.end in ENDS:
        return ENDS[result.end]
    if summary.num_headers != 1:
        return f"The log holds {summary.num_headers} test summaries, not one."
    if "PASSED" in canaries:
        return "A test that must fail was reported as passed: the patch steers the test runner."
    if canaries != {"FAILED"}:
        return "The canary test did not run."
    counted = dict(Counter(status for status, _ in summary.lines))
    if summary.counts is None or counted != {k: n for k, n in summary.counts.items() if n}:
        return f"pytest counted {summary.counts or 'nothing'} and listed {counted}."
    if result.exit_code != _TESTS_FAILED:
        return f"Exit code {result.exit_code} does not agree with the failed canary test."
    return ""
