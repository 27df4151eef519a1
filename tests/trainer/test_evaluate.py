"""`python -m trainer.evaluate`: real processes, sandboxes and grading; the model is a script behind a real endpoint."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import tomli_w

from sandbox.base import ReapReport
from sandbox.errors import SandboxUnavailable
from sandbox.pool import Pool
from sandbox.task import Task, load_taskset
from tests.trainer.scripted_endpoint import ScriptedEndpoint, share_solved
from trainer.config import ConfigError
from trainer.engines.chat import Chat
from trainer.engines.generate import Engine
from trainer.evaluate import (
    MODEL_FILE,
    Share,
    evaluated_tasks,
    only_one,
    run,
    with_kept_model,
)
from trainer.evaluations.config import (
    EVAL_FILE,
    EvalConfig,
    evaluation_recipes,
    load_evaluation_recipe,
    model_folder,
    parse_evaluation,
)
from trainer.evaluations.evaluator import Evaluator
from trainer.evaluations.results import read_header, read_results, rewards_by_task
from trainer.evaluations.shards import Shard, parse_shard
from trainer.events import EVENTS_FILE, RolloutFinished, RolloutStarted, read_events
from trainer.grpo.rollout import Rollout
from trainer.recipes import merge
from trainer.rollouts.collect import _seed
from trainer.stop import STOPPED, RunStopped

NAMES = ["bonus-points", "budget-left", "class-average", "count-the-sheep"]
K = 3


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return [t for t in load_taskset("starter").tasks if t.task_id.partition("/")[2] in NAMES]


@pytest.fixture
def endpoint(tasks: list[Task]) -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(tasks) as started:
        yield started


def settings(endpoint: ScriptedEndpoint, **sections: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "model": {"path": "scripted", "endpoint": endpoint.url},
        "tasks": {"split": "train", "only": NAMES},
        "rollout": {
            "group_size": K,
            "max_turns": 4,
            "max_turn_tokens": 2000,
            "max_response_tokens": 9000,
            "timeout_s": 60,
            "concurrency": 4,
            "prompt": "starter",
        },
        "engine": {"max_model_len": 16384},
        "sandbox": {"command_timeout_s": 10, "grading_timeout_s": 30},
    }
    return merge(base, sections)


def expected_rewards(tasks: list[Task]) -> dict[str, list[float]]:
    return {
        task.task_id: [float(share_solved(task, seed_of(task, index))) for index in range(K)]
        for task in tasks
    }


def seed_of(task: Task, index: int) -> int:
    rollout = Rollout(
        id=UUID(int=0),
        group=UUID(int=0),
        index=index,
        task_id=task.task_id,
        step=0,
        purpose="evaluation",
        policy_version=0,
        prompt_ids=[],
    )
    return _seed(0, rollout)


def share_of(config: EvalConfig, folder: Path) -> Share:
    tasks = evaluated_tasks(config.tasks)
    folder.mkdir(parents=True, exist_ok=True)
    return Share(config=config, tasks=tasks, folder=folder, evaluation=UUID(int=5), shard=Shard())


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "trainer.evaluate", str(folder), *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def wait_for_finished(folder: Path, number: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        path = folder / EVENTS_FILE
        if path.exists() and path.read_bytes().count(b'"type":"rollout_finished"') >= number:
            return
        time.sleep(0.05)
    pytest.fail(f"no {number} rollouts finished")


def test_killed_and_stopped_it_goes_on_and_does_every_rollout_once(
    endpoint: ScriptedEndpoint, tasks: list[Task], tmp_path: Path
) -> None:
    (tmp_path / EVAL_FILE).write_text(tomli_w.dumps(settings(endpoint)))
    for number, (end, code) in enumerate([(signal.SIGKILL, -9), (signal.SIGTERM, 3)], start=1):
        with start(tmp_path) as process:
            wait_for_finished(tmp_path, 3 * number)
            # the rest hangs in requests that nobody answers
            endpoint.answering.clear()
            process.send_signal(end)
            assert process.wait(30) == code
            endpoint.answering.set()
            assert process.stderr is not None
            process.stderr.read()
    with start(tmp_path) as process:
        assert process.wait(90) == 0
    results = read_results(tmp_path)
    assert len({result.place for result in results}) == len(results) == len(tasks) * K
    assert rewards_by_task(results) == expected_rewards(tasks)
    kinds = Counter(event.type for _, event in read_events(tmp_path / EVENTS_FILE))
    assert (kinds["started"], kinds["resumed"], kinds["evaluation"]) == (1, 2, 1)
    finished = [e for _, e in read_events(tmp_path / EVENTS_FILE) if isinstance(e, RolloutFinished)]
    scored = [event for event in finished if event.reward is not None]
    assert len(scored) == len(tasks) * K, "a rollout with a score was done twice"
    assert len({event.group for event in finished}) == len(tasks)
    # once more: nothing is left to do
    with start(tmp_path) as process:
        assert process.wait(30) == 0
    assert read_results(tmp_path) == results


def test_shards_share_the_tasks_and_one_id(
    endpoint: ScriptedEndpoint, tasks: list[Task], tmp_path: Path
) -> None:
    (tmp_path / EVAL_FILE).write_text(tomli_w.dumps(settings(endpoint)))
    processes = [start(tmp_path, "--shard", f"{number}/3") for number in (1, 2, 3)]
    for process in processes:
        assert process.communicate(timeout=90)[1] is not None
        assert process.returncode == 0
    assert rewards_by_task(read_results(tmp_path)) == expected_rewards(tasks)
    header = read_header(tmp_path)
    assert sorted(header.tasks) == sorted(task.task_id for task in tasks)
    ids = {
        event.run
        for folder in (tmp_path / "shards").iterdir()
        for _, event in read_events(folder / EVENTS_FILE)
        if event.type == "started"
    }
    assert ids == {header.started.run}


def test_infra_is_tried_again_and_never_scored(
    endpoint: ScriptedEndpoint, tasks: list[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.evaluations.evaluator.RETRY_AFTER_S", 0.0)
    config = parse_evaluation(
        settings(endpoint, rollout={"concurrency": 1}, tasks={"only": NAMES[:1]}, infra_retries=1)
    )
    # the first place is refused twice, the second once
    endpoint.faults = [(404, "gone"), (404, "gone"), (404, "gone")]
    share = share_of(config, tmp_path)
    assert run(share, lambda: False) == 0
    events = [event for _, event in read_events(tmp_path / EVENTS_FILE)]
    assert events[-1].type == "finished"
    assert "1 without a score" in events[-1].reason
    finished = [event for event in events if isinstance(event, RolloutFinished)]
    assert [event.outcome for event in finished] == ["infra", "infra", "infra", "task", "task"]
    begun = [event.index for event in events if isinstance(event, RolloutStarted)]
    assert begun == [0, 0, 1, 1, 2]
    rewards = {result.index: result.reward for result in read_results(tmp_path)}
    expected = expected_rewards(tasks)["starter/bonus-points"]
    assert rewards == {0: None, 1: expected[1], 2: expected[2]}
    # started again, what has no score is done
    assert run(share, lambda: False) == 0
    rewards = {result.index: result.reward for result in read_results(tmp_path)}
    assert rewards == dict(enumerate(expected))


def test_an_error_ends_the_evaluation_without_working_through_what_is_left(
    endpoint: ScriptedEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def broken(_: Evaluator, task: Task, rollout: Rollout) -> None:
        attempts.append(rollout.index)
        raise RuntimeError("no such model")

    monkeypatch.setattr(Evaluator, "_attempt", broken)
    config = parse_evaluation(settings(endpoint, rollout={"concurrency": 1}))
    assert run(share_of(config, tmp_path), lambda: False) == 1
    *_, (_, end) = read_events(tmp_path / EVENTS_FILE)
    assert (end.status, end.reason) == ("failed", "RuntimeError: no such model")
    assert len(attempts) <= 2


def test_a_prompt_that_does_not_fit_ends_as_max_context_and_is_scored(
    endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    sections = {"tasks": {"only": NAMES[:1]}, "rollout": {"group_size": 1}}
    endpoint.faults = [(400, "maximum context length exceeded")]
    assert run(share_of(parse_evaluation(settings(endpoint, **sections)), tmp_path), bool) == 0
    (result,) = read_results(tmp_path)
    assert (result.finished.termination_reason, result.reward) == ("max_context", 0.0)


def test_a_folder_holds_one_evaluation_by_one_process(
    endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    sections = {"tasks": {"only": NAMES[:1]}, "rollout": {"group_size": 1}}
    config = parse_evaluation(settings(endpoint, **sections))
    assert run(share_of(config, tmp_path), bool) == 0
    other = config.model_copy(update={"seed": 4})
    assert run(share_of(other, tmp_path), bool) == 2
    with only_one(tmp_path), pytest.raises(ConfigError, match="another process"):  # noqa: SIM117
        with only_one(tmp_path):
            pass


def test_a_local_model_is_evaluated(tiny_model: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "step_12"
    checkpoint.mkdir(parents=True)
    os.symlink(tiny_model, checkpoint / "model")  # noqa: PTH211
    overrides = {
        "model": {"path": str(tmp_path / "run"), "dtype": "float32"},
        "tasks": {"limit": 2},
        "rollout": {"group_size": 2, "max_turn_tokens": 20, "max_response_tokens": 60},
        "engine": {"kind": "transformers"},
    }
    share = share_of(load_evaluation_recipe("starter", overrides), tmp_path / "evaluation")
    assert run(share, lambda: False) == 0
    assert len([r for r in read_results(share.folder) if r.reward is not None]) == 4
    told = read_header(share.folder).started.config["model"]["path"]
    assert told == str(checkpoint / "model")


def test_a_runs_newest_checkpoint_is_kept_to_by_every_shard(
    tiny_model: Path, tmp_path: Path
) -> None:
    def save(step: int) -> Path:
        model = tmp_path / "run" / "checkpoints" / f"step_{step}" / "model"
        model.parent.mkdir(parents=True)
        os.symlink(tiny_model, model)  # noqa: PTH211
        return model

    def begin(config: EvalConfig) -> tuple[int, str]:
        """Exit code and model of an evaluation without a model to begin with."""
        kept = with_kept_model(folder, config)
        code = run(share_of(kept, folder), bool, no_model)
        return code, read_header(folder).started.config["model"]["path"]

    def no_model(*_: object) -> tuple[Engine, Chat]:
        raise RunStopped

    first, folder = save(8), tmp_path / "evaluation"
    folder.mkdir()
    overrides = {"model": {"path": str(tmp_path / "run")}, "tasks": {"limit": 1}}
    config = load_evaluation_recipe("starter", overrides)
    assert begin(config) == (STOPPED, str(first))
    save(16)
    assert begin(config) == (STOPPED, str(first))
    # one that was begun where nothing was noted, and another model in a folder that has one
    (folder / MODEL_FILE).unlink()
    assert begin(config) == (STOPPED, str(first))
    other = load_evaluation_recipe("starter", merge(overrides, {"model": {"path": "other"}}))
    assert begin(other) == (2, str(first))
    assert with_kept_model(folder, config).model.path == str(first)


def test_an_engine_that_is_away_at_the_end_leaves_the_result_as_it_is(
    endpoint: ScriptedEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def reap(_: Pool, *, run: str | None = None) -> ReapReport:
        """Stands in for an engine that goes away while the evaluation is under way."""
        asked.append(run)
        if len(asked) > 1:
            raise SandboxUnavailable("no answer")
        return ReapReport(examined=0, removed=())

    monkeypatch.setattr(Pool, "reap", reap)
    sections = {"tasks": {"only": NAMES[:1]}, "rollout": {"group_size": 1}}
    assert run(share_of(parse_evaluation(settings(endpoint, **sections)), tmp_path), bool) == 0
    assert len(asked) == 2
    *_, (_, scored), (_, end) = read_events(tmp_path / EVENTS_FILE)
    assert (scored.type, end.status) == ("evaluation", "finished")


def test_of_two_checkpoints_the_newest_is_meant(tmp_path: Path) -> None:
    for step in (9, 10):
        (tmp_path / "checkpoints" / f"step_{step}" / "model").mkdir(parents=True)
    assert model_folder(str(tmp_path)) == str(tmp_path / "checkpoints" / "step_10" / "model")
    assert model_folder("Qwen/Qwen3-32B") == "Qwen/Qwen3-32B"


def test_a_path_that_cannot_be_looked_at_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model_folder("m" * 300) == "m" * 300

    def refuses(_: Path) -> bool:
        raise PermissionError("stand-in for a folder of another user: this test may run as root")

    monkeypatch.setattr(Path, "is_file", refuses)
    assert model_folder(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize(
    ("data", "field", "message"),
    [
        ({"rollouts": {}}, "rollouts", "known here: recipe, description, seed"),
        ({"tasks": {"splitt": "all"}}, "tasks.splitt", "known here: taskset, split"),
        ({"engine": {"max_model_len": 100}}, "engine.max_model_len", "raise it"),
        ({"model": {"endpoint": "localhost:8000"}}, "model.endpoint", "needs a URL"),
        ({"tasks": {"only": ["a", "a"]}}, "tasks.only", "twice"),
        ({"infra_retries": -1}, "infra_retries", "greater than or equal to 0"),
    ],
)
def test_a_wrong_configuration_is_told_by_field(
    data: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_evaluation(merge({"engine": {"max_model_len": 40000}}, data))
    problems = dict(caught.value.problems)
    assert message in problems[field]


@pytest.mark.parametrize("name", evaluation_recipes())
def test_every_recipe_is_possible(name: str) -> None:
    assert load_evaluation_recipe(name).recipe == name


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="needs i/n"):
        parse_shard(text)
