"""Runs that a user starts from the form, on every sandbox backend: R2E-layout tasks and the starter's, really trained.

Page, worker, trainer, sandboxes and tests are real; the model is a tiny random one, so most rewards are 0. What counts
is that each rollout got its grade from tests that ran.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from playwright.sync_api import Browser, Page, expect

from sandbox.load import main as load
from tests.conftest import free_port
from tests.e2e.run_form import fill_in, signed_in
from tests.images.rows import PUBLISHED
from tests.sandbox.conftest import EVERY_BACKEND
from tests.trainer.tiny_model import make_tiny_model
from tests.web.running_studio import Studio, running_studio
from webapp import settings

pytestmark = [pytest.mark.browser, pytest.mark.slow]
TRAINER = [sys.executable, "-m", "trainer"]
WAIT_S = 900
NUM_TASKS = 12
SMALLEST = {
    "num_steps": "1",
    "rollout.group_size": "1",
    "rollout.max_turns": "1",
    "rollout.max_turn_tokens": "12",
    "rollout.max_prompt_tokens": "1900",
    "rollout.max_response_tokens": "100",
    "rollout.timeout_s": "600",
    "algorithm.baseline": "mean",
    "engine.kind": "transformers",
    "model.dtype": "float32",
    "evaluation.every_steps": "0",
    "checkpoint.every_steps": "0",
    "hardware.min_memory_gib": "0.1",
    "sandbox.grading_timeout_s": "120",
}


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-model")
    make_tiny_model(folder)
    return folder


@pytest.fixture(params=EVERY_BACKEND)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def options(
    backend: str, request: pytest.FixtureRequest, built: Path, tmp_path: Path
) -> dict[str, Any]:
    """What the administrator of this machine says of the backend, once it has the images."""
    if backend == "bubblewrap":
        return {"unpacked": str(built / "images"), "state": str(tmp_path / "sandboxes")}
    if backend == "docker":
        return {"base_url": request.getfixturevalue("r2e_engine")}
    request.getfixturevalue("nodes")
    return dict(request.getfixturevalue("kubernetes_options"))


@pytest.fixture
def studio(backend: str, options: dict[str, Any], tmp_path: Path) -> Iterator[Studio]:
    """One that knows the taskset `published` and, of the engines, the one under test."""
    said = tmp_path / "options.toml"
    said.write_text(tomli_w.dumps({backend: options}))
    environment = {
        "SANDBOX_OPTIONS": str(said),
        "DOCKER_HOST": options.get("base_url", f"unix://{tmp_path}/none.sock"),
        "KUBECONFIG": options.get("kubeconfig", f"{tmp_path}/none.yaml"),
        "HF_HUB_OFFLINE": "1",
    }
    with running_studio(tmp_path, free_port(), TRAINER, demo=False, **environment) as studio:
        folder = studio.var_dir / "tasksets" / "published"
        assert load([str(PUBLISHED / "r2e.jsonl"), "--name", "published", str(folder)]) == 0
        subprocess.run(
            [sys.executable, "manage.py", "load_taskset", str(folder)],
            cwd=settings.BASE_DIR,
            env=os.environ | {"VAR_DIR": str(studio.var_dir)},
            check=True,
        )
        yield studio


@pytest.fixture
def page(browser: Browser, studio: Studio) -> Page:
    return signed_in(browser, studio)


def test_runs_started_from_the_form_are_graded_in_real_sandboxes(
    page: Page, studio: Studio, backend: str, tiny_model: Path
) -> None:
    changes = SMALLEST | {"model.path": str(tiny_model)}
    launch(page, studio, backend, "published", changes | {"tasks.limit": str(NUM_TASKS)})
    rollouts = graded(studio)
    assert len({rollout["task"] for rollout in rollouts}) == NUM_TASKS
    assert all(rollout["task"].startswith("published/") for rollout in rollouts)

    launch(page, studio, backend, "starter", changes | {"tasks.limit": "3"})
    assert len({rollout["task"] for rollout in graded(studio)}) == 3


def launch(page: Page, studio: Studio, backend: str, taskset: str, changes: dict[str, str]) -> None:
    page.goto(f"{studio.base}/runs/new/?recipe=starter-cpu")
    offered = page.locator(".backend", has_text=backend)
    studio.until(lambda: page.reload() and "studio@" in offered.inner_text())
    if taskset != "starter":
        choose_taskset(page, taskset)
    offered.click()
    tasks = {"tasks.tasks_per_step": changes["tasks.limit"], "name": f"{taskset} on {backend}"}
    fill_in(page, changes | tasks)
    page.get_by_role("button", name="Launch").click()
    expect(page.get_by_role("heading", name=f"{taskset} on {backend}")).to_be_visible()


def choose_taskset(page: Page, name: str) -> None:
    """By its name; the recipe's bands and named tasks, which it has not, go."""
    choice = page.locator('[name="tasks.taskset"]')
    label = choice.locator("option", has_text=name).inner_text()
    choice.select_option(label=label)
    note = page.get_by_role("status").filter(has_text="this taskset has no such tasks")
    expect(note).to_contain_text("tasks.difficulties, tasks.only, evaluation.difficulties")
    expect(page.locator('[name="tasks.only"]')).to_have_value("")
    assert page.locator('[name="tasks.difficulties"]:checked').count() == 0


def graded(studio: Studio) -> list[dict[str, Any]]:
    """The rollouts of the newest run, once it has ended."""

    def ended() -> Any:
        run = studio.api("/runs")["runs"][0]
        return run if run["status"] in ("finished", "failed", "stopped") else None

    run = studio.until(ended, WAIT_S)
    assert (run["status"], run["current_step"]) == ("finished", 1), run["reason"]
    rollouts: list[dict[str, Any]] = studio.api(f"/runs/{run['id']}/rollouts?purpose=train")[
        "rollouts"
    ]
    for rollout in rollouts:
        assert rollout["outcome"] == "task", rollout
        assert rollout["reward"] in (0.0, 1.0), rollout
        assert studio.api(f"/rollouts/{rollout['id']}")["tests"], rollout
    return rollouts
