"""The execution-based verifier end to end: an agent writes the tests in a real sandbox, patches run against them in others."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
import tomli_w

from sandbox.base import SandboxLabels, SandboxSpec
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.bubblewrap.sandbox import BubblewrapSandbox
from sandbox.grading.counts import Counts
from sandbox.grading.open_tests import Before, OpenTests
from sandbox.limits import Limits
from sandbox.task import Task, Taskset, load_taskset
from tests.trainer.scripted_endpoint import FINISH, Script, ScriptedEndpoint
from trainer import report, run_tests
from trainer.evaluate import main as evaluate
from trainer.evaluations.config import EVAL_FILE, parse_evaluation
from trainer.evaluations.counts import counts_path, line_of, read_counts, read_every_count
from trainer.evaluations.results import read_header, read_results

SCRIPT = """
from one import double, one


def case_double():
    print("Issue resolved" if double(3) == 6 else "Issue reproduced")


def case_negative():
    print("Issue resolved" if double(-2) == -4 else "Issue reproduced")


def case_other():
    print("Issue resolved" if one() == 1 else "Issue reproduced")


for case in (case_double, case_negative, case_other):
    case()
"""
"""Two cases show the issue and the third does not."""
RIGHT = "return 2 * number"
BEFORE = Before(frozenset({"test_one.py::test_one"}), num_reproduced=2, num_resolved=1)


def patch(body: str) -> bytes:
    lines = body.split("\n")
    added = "".join(f"+{line}\n" for line in [f"    {lines[0]}", *lines[1:]])
    return (
        "diff --git a/one.py b/one.py\n--- a/one.py\n+++ b/one.py\n"
        f"@@ -5,2 +5,{1 + len(lines)} @@ def one():\n def double(number):\n-    return number\n{added}"
    ).encode()


@pytest.fixture(scope="module")
def taskset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One task whose repository has two tests of its own: one passes, one fails."""
    root: Path = tmp_path_factory.mktemp("pair")
    task = root / "double"
    (task / "repo").mkdir(parents=True)
    (task / "tests").mkdir()
    code = "def one():\n    return 1\n\n\ndef double(number):\n    return number\n"
    (task / "repo" / "one.py").write_text(code)
    (task / "repo" / "test_one.py").write_text(
        "from one import double, one\n\n\ndef test_one():\n    assert one() == 1\n\n\n"
        "def test_double():\n    assert double(2) == 4\n"
    )
    (task / "tests" / "test_1.py").write_text(
        "from one import double\n\n\ndef test_double():\n    assert double(5) == 10\n"
    )
    (task / "gold.patch").write_bytes(patch(RIGHT))
    (task / "task.toml").write_text(
        'problem_statement = "`double(3)` is 3 and must be 6."\n'
        '[expected_output]\ntest_double = "PASSED"\n'
    )
    (root / "taskset.toml").write_text('name = "pair"\ndocker_image = "deepswe-studio/starter:1"\n')
    return root


@pytest.fixture(scope="module")
def task(taskset: Path) -> Task:
    loaded: Taskset = load_taskset(str(taskset))
    return loaded.tasks[0]


@pytest.fixture(scope="module")
def backend() -> Iterator[BubblewrapBackend]:
    made = BubblewrapBackend()
    yield made
    made.close()


def open_tests(task: Task, backend: BubblewrapBackend, script: str = SCRIPT) -> OpenTests:
    labels = SandboxLabels(run="t", rollout="t", owner="here:1", expires=2e9)
    made = "".join(f"+{line}\n" for line in script.splitlines())
    diff = f"--- /dev/null\n+++ b/test_issue.py\n@@ -0,0 +1,{made.count(chr(10))} @@\n{made}"
    header = "diff --git a/test_issue.py b/test_issue.py\nnew file mode 100644\n"
    return OpenTests(task, (header + diff).encode(), backend, labels=labels, limits=Limits())


def test_before_a_patch_the_passing_tests_and_the_shown_cases_are_known(
    task: Task, backend: BubblewrapBackend
) -> None:
    before = open_tests(task, backend).before()
    assert before == BEFORE
    assert open_tests(task, backend, "raise SystemExit(1)").num_reproduced() == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (patch(RIGHT), Counts(1, 2)),
        (b"", Counts(1, 0)),
        (patch("return number + 3"), Counts(1, 1)),
        (patch("return 2 * number\n\n\ndef one():\n    return 2"), Counts(0, 1)),
        (patch("print(*9 * ['Issue resolved'], sep='\\n')"), Counts(1, 0)),
        (b"diff --git a/one.py b/one.py\nnonsense", Counts(0, 0)),
    ],
    ids=["right", "nothing", "half right", "breaks another test", "forges lines", "does not apply"],
)
def test_a_patch_is_counted_by_what_holds_after_it(
    task: Task, backend: BubblewrapBackend, change: bytes, expected: Counts
) -> None:
    tests = open_tests(task, backend)
    assert tests.count(change, BEFORE) == expected


class CountedBackend(BubblewrapBackend):
    """Counts the sandboxes that it makes."""

    num_made = 0

    def create(self, spec: SandboxSpec) -> BubblewrapSandbox:
        self.num_made += 1
        return super().create(spec)


def test_when_the_caller_wants_no_more_no_further_patch_is_begun(task: Task) -> None:
    results = [
        SimpleNamespace(task=task.task_id, patch=patch(f"return number + {n}"), rollout=uuid4())
        for n in range(40)
    ]
    config = parse_evaluation(
        {
            "rollout": {"max_response_tokens": 2048, "max_prompt_tokens": 1024},
            "sandbox": {"concurrency": 1},
        }
    )
    backend = CountedBackend()
    counted = run_tests.Counter(config, {task.task_id: task}, {}, backend).run(
        results, threading.Event()
    )
    assert next(counted)[1] == Counts(1, 0)
    counted.close()
    assert backend.num_made < len(results)
    backend.close()


def writes(script: str) -> Script:
    """An agent that leaves this script."""
    call = "<function=file_editor>\n<parameter=command>create</parameter>\n"
    call += "<parameter=path>/testbed/test_issue.py</parameter>\n"
    return [f"{call}<parameter=file_text>{script}</parameter>\n", FINISH]


def applies(change: bytes) -> Script:
    cmd = f"git apply --whitespace=nowarn - <<'PATCH_ENDS'\n{change.decode()}PATCH_ENDS"
    return [f"<function=execute_bash>\n<parameter=cmd>{cmd}</parameter>\n", FINISH]


def test_an_agent_writes_the_tests_and_they_choose_the_right_patch(
    taskset: Path, task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half, right = applies(patch("return number + 3")), applies(patch(RIGHT))
    with ScriptedEndpoint(
        [task], script=lambda _, seed: [half, [FINISH], right][seed % 3]
    ) as model:
        config = {
            "seed": 1,
            "model": {"path": "m", "endpoint": model.url},
            "tasks": {"taskset": str(taskset), "split": "all"},
            "rollout": {"group_size": 6, "prompt": "starter"},
            "engine": {"max_model_len": 40000},
        }
        (tmp_path / EVAL_FILE).write_text(
            tomli_w.dumps(parse_evaluation(config).model_dump(mode="json", exclude_none=True))
        )
        assert evaluate([str(tmp_path)]) == 0
        results = read_results(tmp_path)
        solved = {r.rollout for r in results if r.reward}
        assert 0 < len(solved) < 6
        model.script = lambda _, seed: writes(SCRIPT)
        command = [str(tmp_path), "--name", "tests", "--model", "m", "--endpoint", model.url]
        assert run_tests.main(command) == 0
        num_requests = len(model.requests)
        assert "writes tests" in model.requests[-1]["messages"][0]["content"]
        assert run_tests.main(command) == 0
        assert len(model.requests) == num_requests, "the script was there"
    assert "0 rollouts counted, 6 were known" in capsys.readouterr().out
    counts = read_counts(counts_path(tmp_path, "tests"))
    assert {rollout for rollout, c in counts.items() if c == Counts(1, 2)} == solved
    assert {r.rollout: counts[r.rollout] for r in results if not r.patch} == {
        r.rollout: Counts(1, 0) for r in results if not r.patch
    }
    assert [(r.task, r.reward) for r in read_results(tmp_path / "open_tests" / "tests")] == [
        ("pair/double", 1.0)
    ]
    assert report.main([str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "| tests | 100.0% |" in shown


@pytest.fixture
def pair(taskset: Path, tmp_path: Path) -> Path:
    """Two tasks of the same repository."""
    root: Path = shutil.copytree(taskset, tmp_path / "taskset")
    shutil.copytree(root / "double", root / "twice")
    told = (root / "twice" / "task.toml").read_text()
    (root / "twice" / "task.toml").write_text(told.replace("`double(3)`", "Twice three"))
    return root


@contextmanager
def evaluating(folder: Path, taskset: Path, group_size: int) -> Iterator[ScriptedEndpoint]:
    """The model of an evaluation that is ready to be begun in `folder`; each of its patches is right."""
    folder.mkdir()
    tasks = load_taskset(str(taskset)).tasks
    with ScriptedEndpoint(tasks, script=lambda *_: applies(patch(RIGHT))) as model:
        config = {
            "infra_retries": 0,
            "model": {"path": "m", "endpoint": model.url},
            "tasks": {"taskset": str(taskset), "split": "all"},
            "rollout": {"group_size": group_size, "prompt": "starter", "concurrency": 1},
            "engine": {"max_model_len": 40000},
        }
        (folder / EVAL_FILE).write_text(
            tomli_w.dumps(parse_evaluation(config).model_dump(mode="json", exclude_none=True))
        )
        yield model


def test_tasks_that_the_evaluation_has_since_are_verified_too_and_another_model_begins_anew(
    pair: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "evaluation"
    with evaluating(folder, pair, group_size=1) as model:

        def verified(name: str) -> dict[UUID, Counts]:
            script, model.script = model.script, lambda *_: writes(SCRIPT)
            command = [str(folder), "--name", "tests", "--model", name, "--endpoint", model.url]
            assert run_tests.main(command) == 0
            model.script = script
            return read_every_count(folder)["tests"]

        model.faults = [(404, "gone")]
        assert evaluate([str(folder)]) == 0
        assert list(verified("m").values()) == [Counts(1, 2)]
        assert evaluate([str(folder)]) == 0
        assert list(verified("m").values()) == [Counts(1, 2)] * 2
        began = read_header(folder / "open_tests" / "tests").started
        assert len(read_results(folder / "open_tests" / "tests")) == 2

        num_requests = len(model.requests)
        assert list(verified("another").values()) == [Counts(1, 2)] * 2
        assert {r["model"] for r in model.requests[num_requests:]} == {"another"}
    assert "was written by m; set aside" in caplog.text
    aside = folder / "open_tests" / "tests" / "earlier" / str(began.run)
    assert read_header(aside).started == began
    assert list(read_every_count(folder)) == ["tests"]


def test_counts_of_a_task_are_all_by_one_script(taskset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    with evaluating(folder, taskset, group_size=2) as model:
        assert evaluate([str(folder)]) == 0
        rollouts = [result.rollout for result in read_results(folder)]
        model.script = lambda *_: writes(SCRIPT)
        # known from another machine, whose script is not here
        path = counts_path(folder, "tests")
        path.parent.mkdir(parents=True)
        path.write_text("".join(line_of(rollout, Counts(9, 9)) for rollout in rollouts))
        command = [str(folder), "--name", "tests", "--model", "m", "--endpoint", model.url]
        num_requests = len(model.requests)
        assert run_tests.main(command) == 0
        assert len(model.requests) == num_requests, "a script was written that nothing needs"
        assert read_counts(path) == dict.fromkeys(rollouts, Counts(9, 9))

        path.write_text(line_of(rollouts[0], Counts(9, 9)))
        assert run_tests.main(command) == 0
        assert read_counts(path) == dict.fromkeys(rollouts, Counts(1, 2))


def test_a_script_that_shows_nothing_is_no_test(taskset: Path, task: Task, tmp_path: Path) -> None:
    with ScriptedEndpoint([task], script=lambda *_: applies(patch(RIGHT))) as model:
        config = {
            "model": {"path": "m", "endpoint": model.url},
            "tasks": {"taskset": str(taskset), "split": "all"},
            "rollout": {"group_size": 1, "prompt": "starter"},
            "engine": {"max_model_len": 40000},
        }
        (tmp_path / EVAL_FILE).write_text(
            tomli_w.dumps(parse_evaluation(config).model_dump(mode="json", exclude_none=True))
        )
        assert evaluate([str(tmp_path)]) == 0
        model.script = lambda *_: writes("print('Issue resolved')\n")
        command = [str(tmp_path), "--name", "tests", "--model", "m", "--endpoint", model.url]
        assert run_tests.main(command) == 0
    assert list(read_counts(counts_path(tmp_path, "tests")).values()) == [Counts(1, 0)]
    assert read_results(tmp_path / "open_tests" / "tests")[0].reward == 0
