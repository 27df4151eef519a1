"""Choosing in the form what a run practises on and where: tasksets by name, and sandbox backends."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from sandbox.task import Task
from tests.web.conftest import make_worker
from tests.web.test_pages_actions import posted
from webapp.runs.models import Run
from webapp.tasksets.load import load

pytestmark = pytest.mark.django_db


@pytest.fixture
def signed_in(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


@pytest.fixture
def outside(tmp_path: Path) -> str:
    """The value of `tasks.taskset` for tasks as `python -m sandbox.load` makes them: no difficulty, all train but one."""
    load("starter")
    return make_outside(tmp_path / "r2e", ["train", "train", "heldout"])


def make_outside(folder: Path, splits: list[str]) -> str:
    folder.mkdir()
    (folder / "taskset.toml").write_text(f'name = "{folder.name}"\n')
    tasks = [
        Task(
            task_id=f"{folder.name}/task-{number}",
            repo_name="ledger",
            docker_image="studio-tests/ledger:1",
            problem_statement="Cents get lost.",
            expected_output_json=json.dumps({"test_one": "PASSED"}),
            split=split,  # type: ignore[arg-type]
            grading="r2e",
        )
        for number, split in enumerate(splits)
    ]
    lines = "".join(task.model_dump_json(exclude_defaults=True) + "\n" for task in tasks)
    (folder / "tasks.jsonl").write_text(lines)
    return load(str(folder)).source


NO_FILTERS = {"tasks__difficulties": [], "tasks__only": "", "evaluation__difficulties": []}


def test_tasksets_from_outside_are_offered_by_name(signed_in: Client, outside: str):
    page = signed_in.get("/runs/new/?recipe=starter-cpu").content.decode()
    assert f'<option value="{outside}">r2e (2 train, 1 held out)</option>' in page
    assert '<option value="starter" selected>starter (50 train, 47 held out)</option>' in page
    listed = signed_in.get("/tasksets/").content.decode()
    assert outside in listed
    assert "no difficulties" in listed
    assert "python -m sandbox.load" in listed


def test_a_taskset_that_was_never_loaded_stays_what_it_is(signed_in: Client):
    page = signed_in.get("/runs/new/?recipe=deepswe-32b-64gpu").content.decode()
    assert "r2e-gym-subset (not loaded here)" in page


def test_choosing_another_taskset_leaves_out_the_filters_it_cannot_serve(
    signed_in: Client, outside: str
):
    answer = signed_in.post("/runs/new/adapt/", posted(tasks__taskset=outside, num_steps="3"))
    form = answer.context["form"]
    assert answer.context["left_out"] == [
        "tasks.difficulties",
        "tasks.only",
        "evaluation.difficulties",
    ]
    assert form.is_valid()
    assert (form.config.tasks.taskset, form.config.num_steps) == (outside, 3)
    assert (form.config.tasks.difficulties, form.config.tasks.only) == ([], [])
    assert "Left empty, since this taskset has no such tasks" in answer.content.decode()


def test_the_recipes_own_taskset_brings_its_filters_back(signed_in: Client, outside: str):
    answer = signed_in.post("/runs/new/adapt/", posted(**NO_FILTERS))
    form = answer.context["form"]
    assert form.is_valid()
    assert form.config.tasks.difficulties == ["easy", "middle"]
    assert "bonus-points" in form.config.tasks.only
    assert answer.context["left_out"] == []


def test_a_run_on_it_is_launched_and_its_heldout_tasks_are_counted(signed_in: Client, outside: str):
    changed = posted(tasks__taskset=outside, **NO_FILTERS)
    estimated = signed_in.post("/runs/new/estimate/", changed)
    assert estimated.context["outlook"].estimate.evaluation_rollouts == 2 * 1 * 8
    signed_in.post("/runs/new/", changed)
    assert Run.objects.get().config["tasks"]["taskset"] == outside


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        (
            {"tasks__only": ""},
            "tasks.difficulties",
            "easy, middle: the tasks of r2e have no difficulty; choose others, or none",
        ),
        (
            {"tasks__difficulties": [], "tasks__only": "task-1, gone"},
            "tasks.only",
            "gone: no training task of these bands of r2e; take it out",
        ),
        (
            {"tasks__difficulties": [], "tasks__only": ""},
            "evaluation.difficulties",
            "easy, middle: the tasks of r2e have no difficulty",
        ),
    ],
)
def test_filters_that_leave_nothing_are_told_beside_their_field(
    signed_in: Client, outside: str, changes: dict[str, object], field: str, message: str
):
    answer = signed_in.post("/runs/new/", posted(tasks__taskset=outside, **changes))
    assert answer.status_code == 422
    assert message in " ".join(answer.context["form"].errors[field])
    assert not Run.objects.exists()


def test_a_taskset_without_training_tasks_is_refused(signed_in: Client, tmp_path: Path):
    source = make_outside(tmp_path / "verified", ["heldout"])
    answer = signed_in.post("/runs/new/", posted(tasks__taskset=source, **NO_FILTERS))
    assert "verified has no training task" in answer.content.decode()


def test_every_backend_is_offered_with_who_has_it_or_what_is_missing(signed_in: Client):
    make_worker("train@one", sandbox_backends=["bubblewrap", "docker"])
    make_worker("train@two", sandbox_backends=["bubblewrap"])
    gone = timezone.now() - timedelta(minutes=1)
    make_worker("train@gone", sandbox_backends=["kubernetes"], heartbeat_at=gone)
    answer = signed_in.get("/runs/new/?recipe=starter-cpu")
    offers = {offer.name: offer.workers for offer in answer.context["form"].backends}
    assert offers == {
        "bubblewrap": ("train@one", "train@two"),
        "docker": ("train@one",),
        "kubernetes": (),
    }
    page = answer.content.decode()
    assert "Needs a cluster that the worker may use" in page
    assert "Needs a Docker engine" not in page


def test_the_chosen_backend_is_that_of_the_run(signed_in: Client):
    signed_in.post("/runs/new/", posted(sandbox__backend="docker"))
    assert Run.objects.get().config["sandbox"]["backend"] == "docker"
