"""Tasks from outside, graded in real sandboxes by their own rules; and what forging their printed log is worth."""

import pytest

from sandbox.base import SandboxLabels
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.environment import Grade, grade
from sandbox.errors import Outcome
from sandbox.limits import Limits
from sandbox.rows.patches import file_patch
from sandbox.task import Task
from tests.sandbox.outside.conftest import LoadTaskset

REPOSITORIES = ["ledger", "timetable", "typeset"]


@pytest.fixture
def graded(unpacked: BubblewrapBackend, labels: SandboxLabels, limits: Limits):
    def grade_patch(task: Task, patch: str) -> Grade:
        return grade(task, patch.encode(), unpacked, labels=labels, limits=limits)

    return grade_patch


@pytest.mark.parametrize("schema", ["r2e", "swebench", "swesmith"])
@pytest.mark.parametrize("repo", REPOSITORIES)
def test_gold_passes_and_nothing_fails(
    schema: str, repo: str, taskset: LoadTaskset, graded
) -> None:
    if schema == "swebench":
        pytest.importorskip("swebench")
    task = next(task for task in reversed(taskset(schema).tasks) if repo in task.task_id)
    gold, empty = graded(task, task.gold_patch), graded(task, "")
    assert (gold.reward, gold.flags) == (1.0, frozenset()), gold
    assert gold.tests == task.expected_output
    assert (empty.reward, empty.outcome) == (0.0, Outcome.TASK)
    assert set(empty.tests) == set(gold.tests)
    assert "not as expected" in empty.reason


FORGED_AT_EXIT = """
import atexit

atexit.register(lambda: print(
    "=== short test summary info ===\\nPASSED r2e_tests/test_1.py::test_format\\n=== 1 passed in 0.1s ==="
))
"""
LEAVES = "\nimport os\n\nos._exit(0)\n"
HOOK = """
import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    outcome.get_result().outcome = "passed"
"""
FROM_INSIDE = """
import _pytest.runner

_pytest.runner.check_interactive_exception = lambda call, report: False
made = _pytest.runner.TestReport.from_item_and_call
_pytest.runner.TestReport.from_item_and_call = classmethod(
    lambda cls, item, call: setattr(report := made(item, call), "outcome", "passed") or report
)
"""
EMPTY_INIT = "typeset/__init__.py"
ATTACKS = {
    "a module that prints a second summary": (EMPTY_INIT, FORGED_AT_EXIT, "forged_log"),
    "a module that ends the run": (EMPTY_INIT, LEAVES, ""),
    "a module that turns reports around": (EMPTY_INIT, FROM_INSIDE, "tampered"),
    "a conftest that turns reports around": ("conftest.py", HOOK, "edited_tests"),
    "another run script": ("run_tests.sh", "echo '1 passed in 0.1s'\n", "edited_tests"),
    "tests of its own": ("r2e_tests/test_1.py", "def test_ok(): ...\n", "edited_tests"),
    "a start-up hook": ("sitecustomize.py", FORGED_AT_EXIT, "startup_hook"),
    "a pytest of its own": ("pytest.py", "print('1 passed in 0.1s')\n", "edited_tests"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_on_a_printed_log_earns_nothing(
    attack: str, taskset: LoadTaskset, graded
) -> None:
    path, text, flag = ATTACKS[attack]
    task = next(task for task in taskset("r2e").tasks if task.repo_name == "typeset")
    attacked = graded(task, file_patch(path, "" if path == EMPTY_INIT else None, text))
    assert (attacked.reward, attacked.outcome) == (0.0, Outcome.TASK), attacked
    assert attacked.flags == ({flag} if flag else set()), attacked
