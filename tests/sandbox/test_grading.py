"""From a patch to a reward: the rules on hand-made reports, and real gradings."""

import base64
import json
import os
import threading
import time
from contextlib import closing

import pytest

from sandbox.base import ExecResult, SandboxLabels
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.environment import Environment, GradeCache, Limits, grade
from sandbox.errors import End, Outcome, SandboxGone
from sandbox.grading.grade import apply_patch
from sandbox.grading.protected import Change, protect, read_changes
from sandbox.grading.verdict import Verdict, judge
from sandbox.limits import spec_of
from sandbox.rows.patches import file_patch
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
    log: str = "",
) -> Verdict:
    collected = ["collected", sorted({str(r[1]) for r in rows if r[0] == "test"})]
    lines = [f"word {json.dumps(r)}" for r in [collected, *rows, ["end", code]]]
    stdout = ("\n".join(lines) + "\n" + extra).encode()
    result = ExecResult(
        stdout=stdout, stderr=log.encode(), end=end, exit_code=exit_code, duration_s=0.1
    )
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


@pytest.mark.parametrize(
    "junk", ['["test", "r2e_tests/te', "[" * 100_000, "9" * 5000, '"text"', "{}", ""]
)
def test_a_line_of_the_report_that_is_no_json_list_is_foreign(junk: str) -> None:
    verdict = judged(GOOD, extra=f"word {junk}\n")
    assert (verdict.reward, verdict.flags) == (1.0, {"forged_log"})


@pytest.mark.parametrize(
    "line", ["a::b PASSED", "PASSED a", "== 1 passed in 1s", "1 passed, 2 xfailed in "]
)
def test_a_log_that_tells_of_passes_is_flagged(line: str) -> None:
    assert judged(GOOD, log=f"some\n{line}\n").flags == {"forged_log"}


@pytest.mark.parametrize("line", ["::b PASSED", "a:: PASSED", "a::b\nPASSED", "a b::c PASSED"])
def test_a_log_that_does_not_is_not(line: str) -> None:
    assert judged(GOOD, log=f"some\n{line}").flags == frozenset()


@pytest.mark.parametrize("text", [":", "a::", "1 passed, ", "=", "1"])
def test_a_log_of_any_length_is_read_at_once(text: str) -> None:
    began = time.monotonic()
    judged(GOOD, log=text * (4_000_000 // len(text)))
    assert time.monotonic() - began < 5


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
    base = "[project]\nname = 'a'\n[tool.pytest.ini_options]\naddopts = '-q'\n"

    def restored(after: str, before: str = base) -> bool:
        found = protect([Change("M", "a/pyproject.toml")], {"a/pyproject.toml": (before, after)})
        return found.restored == ("a/pyproject.toml",)

    assert not restored(base.replace("'a'", "'b'"))
    assert restored(base.replace("-q", "-x"))
    assert restored("broken [")
    assert restored("x = " + "[" * 900)
    assert restored("broken [[", before="broken [")
    long = "a." * 5000 + "b = 1\n"
    assert restored(long + base, before=long)
    assert protect([Change("M", "pyproject.toml")]).restored == ("pyproject.toml",)


def test_test_data_is_put_back_and_new_data_stays() -> None:
    listing = b"M\0tests/data/expected.json\0D\0a/test/b.txt\0A\0tests/more.json\0M\0latest/a.txt\0"
    found = protect(read_changes(listing))
    assert found.restored == ("tests/data/expected.json", "a/test/b.txt")
    assert (found.removed, found.flags) == ((), {"edited_tests"})


def test_startup_hooks_and_shadowed_runners_are_removed() -> None:
    changes = [
        Change("A", name)
        for name in (
            "usercustomize.py",
            "x.pth",
            "pytest.py",
            "_pytest/a.py",
            "sitecustomize/__init__.py",
            "sitecustomize.cpython-311-x86_64-linux-gnu.so",
            "pytest.pyc",
        )
    ]
    found = protect(changes)
    assert len(found.removed) == len(changes)
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


def test_what_the_gold_patch_changes_is_source_wherever_it_lies() -> None:
    changes = [Change("M", "django/test/client.py"), Change("M", "django/test/runner.py")]
    gold = "--- a/django/test/client.py\n+++ b/django/test/client.py\n@@ -1 +1 @@\n-a\n+b\n"
    assert protect(changes, gold_patch=gold).restored == ("django/test/runner.py",)
    assert protect([Change("M", "conftest.py")], gold_patch="+++ b/conftest.py").restored


def test_a_patch_that_leaves_no_room_is_the_patchs_fault(
    task: Task, bubblewrap: BubblewrapBackend, labels: SandboxLabels, limits: Limits
) -> None:
    """A file that fits in the sandbox, whose object in git's store does not."""
    lines = [b"+" + base64.b85encode(os.urandom(56)) for _ in range(limits.disk_mib * 9000)]
    head = f"--- /dev/null\n+++ b/noise.txt\n@@ -0,0 +1,{len(lines)} @@\n".encode()
    patch = FIXED + b"diff --git a/noise.txt b/noise.txt\nnew file mode 100644\n" + head
    patch += b"\n".join(lines) + b"\n"
    graded = grade(task, patch, bubblewrap, labels=labels, limits=limits)
    assert (graded.reward, graded.outcome) == (0.0, Outcome.TASK)


class Unready:
    """A stand-in for a sandbox in which applying a patch ends as it is told to."""

    id = "unready"

    def __init__(self, end: End, exit_code: int | None, stderr: bytes = b"") -> None:
        self._result = ExecResult(
            stdout=b"", stderr=stderr, end=end, exit_code=exit_code, duration_s=0.1
        )

    def exec(self, argv: list[str], **options: object) -> ExecResult:
        return self._result


@pytest.mark.parametrize(("end", "exit_code"), [(End.EXITED, 9), (End.OUTPUT_LIMIT, None)])
def test_a_patch_that_git_refuses_is_the_patchs_fault(end: End, exit_code: int | None) -> None:
    verdict = apply_patch(Unready(end, exit_code, b"error: no such file"), FIXED)  # type: ignore[arg-type]
    assert isinstance(verdict, Verdict)
    assert (verdict.reward, verdict.outcome) == (0.0, Outcome.TASK)
    assert verdict.reason == "The patch does not apply: error: no such file."


@pytest.mark.parametrize(
    ("end", "exit_code"),
    [
        (End.EXITED, 128),
        (End.EXITED, 127),
        (End.TIMEOUT, None),
        (End.OOM, None),
        (End.SANDBOX_GONE, None),
    ],
)
def test_what_fails_beside_the_patch_is_a_broken_sandbox(end: End, exit_code: int | None) -> None:
    with pytest.raises(SandboxGone, match="patch not applied"):
        apply_patch(Unready(end, exit_code), FIXED)  # type: ignore[arg-type]


def test_a_cache_keeps_no_grade_without_a_sandbox(
    task: Task, bubblewrap: BubblewrapBackend, labels: SandboxLabels, limits: Limits
) -> None:
    absent, cache = task.model_copy(update={"docker_image": "nobody/none:1"}), GradeCache()
    for _ in range(2):
        graded = cache.grade(absent, FIXED, bubblewrap, labels=labels, limits=limits)
        assert (graded.reward, graded.outcome, graded.reused) == (None, Outcome.INFRA, False)


def test_a_nearer_pyproject_that_configures_pytest_is_removed_and_another_stays(
    task: Task, bubblewrap: BubblewrapBackend, labels: SandboxLabels, limits: Limits
) -> None:
    table = "[tool.pytest.ini_options]\naddopts = '--collect-only'\n"
    files = {**task.files, "lib/pyproject.toml": "[project]\n", "old/pyproject.toml": table}
    patch = (
        FIXED
        + "".join(
            [
                file_patch("tests/pyproject.toml", None, table),
                file_patch("a b/pyproject.toml", None, "[project]\nname = 'b'\n"),
                file_patch("lib/pyproject.toml", "[project]\n", "[project]\n" + table),
                file_patch("old/pyproject.toml", table, table + "[tool.ruff]\n"),
            ]
        ).encode()
    )
    link = (
        b"diff --git a/c/pyproject.toml b/c/pyproject.toml\nnew file mode 120000\n--- /dev/null\n"
    )
    patch += link + b"+++ b/c/pyproject.toml\n@@ -0,0 +1 @@\n+a=1\n\\ No newline at end of file\n"
    spec = spec_of(task.model_copy(update={"files": files}), labels=labels, limits=limits)
    with closing(bubblewrap.create(spec)) as sandbox:
        assert apply_patch(sandbox, patch) == {"edited_tests"}
        listed = sandbox.exec(
            ["sh", "-c", "find . -name pyproject.toml | sort; cat lib/* old/*"], timeout_s=20
        )
    names = "./a b/pyproject.toml\n./lib/pyproject.toml\n./old/pyproject.toml\n"
    assert listed.stdout.decode() == f"{names}[project]\n{table}[tool.ruff]\n"


def test_a_package_that_python_imports_at_its_start_is_removed(
    task: Task, bubblewrap: BubblewrapBackend, labels: SandboxLabels, limits: Limits
) -> None:
    hook = file_patch("sitecustomize/__init__.py", None, "import os\nos._exit(0)\n")
    graded = grade(task, FIXED + hook.encode(), bubblewrap, labels=labels, limits=limits)
    assert (graded.reward, graded.flags) == (1.0, {"startup_hook"})


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
    cache = GradeCache(max_bytes=1)

    def reused(patch: bytes) -> bool:
        return cache.grade(task, patch, bubblewrap, labels=labels, limits=limits).reused

    assert [reused(b""), reused(b""), reused(FIXED), reused(FIXED), reused(b"")] == [
        False,
        True,
        False,
        True,
        False,
    ]
