"""From a patch to a reward: the rules on hand-made reports, and real gradings."""

import json
import threading

from sandbox.base import ExecResult, SandboxLabels
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.environment import Environment, GradeCache, Limits, grade
from sandbox.errors import End, Outcome
from sandbox.grading.protected import Change, protect, read_changes
from sandbox.grading.verdict import Verdict, judge
from sandbox.task import Task

FIXED = b"""diff --git a/calc.py b/calc.py
--- a/calc.py
+++ b/calc.py
@@ -1,2 +1,2 @@
 def add(a, b):
-    return a - b
+    return a + b
"""
EXPECTED = {"test_a": "PASSED", "TestB.test_c[1]": "PASSED"}


def row(node: str, outcome: str = "passed", when: str = "call") -> list[object]:
    return ["test", f"r2e_tests/{node}", when, outcome, False]


CANARY = row("test_canary.py::test_canary", "failed")
GOOD = [row("test_1.py::test_a"), row("test_1.py::TestB::test_c[1]"), CANARY]


def judged(
    rows: list[list[object]],
    *,
    end: End = End.EXITED,
    code: int = 1,
    exit_code: int | None = 1,
    extra: str = "",
) -> Verdict:
    collected = ["collected", sorted({str(r[1]) for r in rows if r[0] == "test"})]
    lines = [f"word {json.dumps(r)}" for r in [collected, *rows, ["end", code]]]
    stdout = ("\n".join(lines) + "\n" + extra).encode()
    result = ExecResult(stdout=stdout, stderr=b"", end=end, exit_code=exit_code, duration_s=0.1)
    return judge(result, "word", "test_canary", EXPECTED, frozenset())


def test_exactly_the_expected_statuses_earn_one() -> None:
    assert judged(GOOD) == Verdict(
        reward=1.0,
        outcome=Outcome.TASK,
        tests=EXPECTED,
        flags=frozenset(),
        reason="All 2 tests as expected.",
    )


def test_a_failing_a_missing_and_an_extra_test_each_earn_zero() -> None:
    assert judged([row("test_1.py::test_a", "failed"), *GOOD[1:]]).reward == 0
    assert "did not run" in judged(GOOD[1:]).reason
    assert "not expected" in judged([row("test_1.py::test_extra"), *GOOD]).reason


def test_an_error_after_a_pass_counts_as_an_error() -> None:
    verdict = judged([*GOOD, row("test_1.py::test_a", "failed", "teardown")])
    assert verdict.tests["test_a"] == "ERROR"
    assert verdict.reward == 0


def test_a_skipped_test_is_missing() -> None:
    assert judged([row("test_1.py::test_a", "skipped", "setup"), *GOOD[1:]]).reward == 0


def test_a_canary_that_passes_is_tampering_and_one_that_is_absent_is_doubt() -> None:
    forged = judged([*GOOD[:2], row("test_canary.py::test_canary")], code=0, exit_code=0)
    assert (forged.reward, forged.flags) == (0, {"tampered"})
    assert "canary" in judged(GOOD[:2]).reason


def test_exit_codes_must_agree() -> None:
    assert "does not agree" in judged(GOOD, code=0, exit_code=0).reason
    assert "does not agree" in judged(GOOD, exit_code=0).reason


def test_lines_without_the_word_are_flagged_and_not_believed() -> None:
    verdict = judged(GOOD[1:], extra=f"guess {json.dumps(GOOD[0])}\n")
    assert (verdict.reward, verdict.flags) == (0, {"forged_log"})


def test_ends_map_to_outcomes() -> None:
    assert judged(GOOD, end=End.TIMEOUT, exit_code=None).reward == 0
    assert judged(GOOD, end=End.OOM, exit_code=None).outcome is Outcome.TASK
    gone = judged(GOOD, end=End.SANDBOX_GONE, exit_code=None)
    assert (gone.outcome, gone.reward) == (Outcome.INFRA, None)


def test_runner_files_are_put_back_and_ordinary_ones_are_not() -> None:
    listing = b"A\0conftest.py\0M\0sub/tox.ini\0M\0calc.py\0A\0test_mine.py\0D\0tests/test_old.py\0"
    found = protect(read_changes(listing))
    assert found.removed == ("conftest.py",)
    assert found.restored == ("sub/tox.ini", "tests/test_old.py")
    assert found.flags == {"edited_tests"}


def test_pyproject_is_put_back_only_when_its_pytest_table_changed() -> None:
    change = [Change("M", "pyproject.toml")]
    base = "[project]\nname = 'a'\n[tool.pytest.ini_options]\naddopts = '-q'\n"
    assert protect(change, (base, base.replace("'a'", "'b'"))).restored == ()
    assert protect(change, (base, base.replace("-q", "-x"))).restored == ("pyproject.toml",)
    assert protect(change, (base, "broken [")).restored == ("pyproject.toml",)


def test_startup_hooks_and_shadowed_runners_are_removed() -> None:
    changes = [
        Change("A", name) for name in ("usercustomize.py", "x.pth", "pytest.py", "_pytest/a.py")
    ]
    found = protect(changes)
    assert len(found.removed) == 4
    assert found.flags == {"startup_hook", "edited_tests"}


def test_the_fix_earns_one_and_no_patch_earns_an_honest_zero(
    task: Task, bubblewrap: BubblewrapBackend, labels: SandboxLabels, limits: Limits
) -> None:
    fixed = grade(task, FIXED, bubblewrap, labels=labels, limits=limits)
    assert (fixed.reward, fixed.outcome, fixed.flags) == (1.0, Outcome.TASK, frozenset())
    assert fixed.tests == {"test_small": "PASSED", "test_negative": "PASSED"}
    empty = grade(task, b"", bubblewrap, labels=labels, limits=limits)
    assert (empty.reward, set(empty.tests.values())) == (0.0, {"FAILED"})
    assert b"assert" in empty.log


def test_a_patch_that_does_not_apply_earns_zero_with_the_reason(
    task: Task, bubblewrap: BubblewrapBackend, labels: SandboxLabels, limits: Limits
) -> None:
    graded = grade(
        task, FIXED.replace(b"a - b", b"a * b"), bubblewrap, labels=labels, limits=limits
    )
    assert (graded.reward, graded.outcome) == (0.0, Outcome.TASK)
    assert "does not apply" in graded.reason


def test_an_edited_pytest_configuration_is_put_back(
    task: Task, bubblewrap: BubblewrapBackend, labels: SandboxLabels, limits: Limits
) -> None:
    with_config = task.model_copy(update={"files": {**task.files, "setup.cfg": "[tool:pytest]\n"}})
    environment = Environment(with_config, bubblewrap, labels=labels, limits=limits)
    environment.reset()
    cmd = "sed -i s/-/+/ calc.py; echo 'addopts = --collect-only' >> setup.cfg"
    environment.step(f"<function=execute_bash><parameter=cmd>{cmd}</parameter></function>")
    graded = grade(with_config, environment.patch(), bubblewrap, labels=labels, limits=limits)
    environment.close()
    assert (graded.reward, graded.flags) == (1.0, {"edited_tests"})


def test_a_cache_grades_the_same_patch_once(
    task: Task, bubblewrap: BubblewrapBackend, labels: SandboxLabels, limits: Limits
) -> None:
    cache, reused = GradeCache(), []

    def ask() -> None:
        reused.append(cache.grade(task, FIXED, bubblewrap, labels=labels, limits=limits).reused)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reused) == [False, True, True, True]


def test_a_cache_keeps_the_newest_grades_alone(
    task: Task, bubblewrap: BubblewrapBackend, labels: SandboxLabels, limits: Limits
) -> None:
    cache = GradeCache(max_kept=1)

    def reused(patch: bytes) -> bool:
        return cache.grade(task, patch, bubblewrap, labels=labels, limits=limits).reused

    assert [reused(b""), reused(b""), reused(FIXED), reused(FIXED), reused(b"")] == [
        False,
        True,
        False,
        True,
        False,
    ]
