"""Tasksets from their folders into the database."""

import shutil
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from sandbox.task import BUNDLED, load_taskset
from webapp.tasksets import shipping
from webapp.tasksets.models import Task, Taskset

pytestmark = pytest.mark.django_db


def test_the_starter_taskset_is_loaded_whole(capsys: pytest.CaptureFixture[str]) -> None:
    bundled = load_taskset("starter")
    call_command("load_taskset", "starter")
    assert capsys.readouterr().out == f"starter: {len(bundled)} tasks\n"
    first = bundled.tasks[0]
    row = Task.objects.get(task_id=first.task_id)
    assert (row.difficulty, row.split) == (first.difficulty, first.split)
    assert row.gold_patch == first.gold_patch
    assert row.files == first.files
    assert row.expected_output == first.expected_output


def test_loading_again_refreshes_and_keeps_validation() -> None:
    call_command("load_taskset", "starter")
    kept, *_ = Task.objects.all()
    Task.objects.filter(id=kept.id).update(problem_statement="old", validation={"valid": True})
    gone = {"taskset": Taskset.objects.get(), "problem_statement": "gone"}
    Task.objects.create(task_id="starter/gone", repo_name="x", docker_image="x", **gone)
    call_command("load_taskset", "starter")
    kept.refresh_from_db()
    assert kept.problem_statement != "old"
    assert kept.validation == {"valid": True}
    assert not Task.objects.filter(task_id="starter/gone").exists()


def test_an_unknown_taskset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CommandError, match="bundled tasksets: starter"):
        call_command("load_taskset", "huge")


def test_a_taskset_from_outside_reaches_machines_without_its_folder(
    tmp_path: Path, settings
) -> None:
    settings.TASKSETS_DIR = tmp_path / "worker"
    folder = tmp_path / "outside"
    shutil.copytree(BUNDLED / "starter", folder)
    call_command("load_taskset", str(folder))
    assert shipping.source_here(str(folder)) == str(folder)

    whole = load_taskset(str(folder))
    folder.rename(tmp_path / "elsewhere")
    unpacked = shipping.source_here(str(folder))
    assert load_taskset(unpacked) == whole
    assert shipping.source_here(str(folder)) == unpacked
    assert len(list(settings.TASKSETS_DIR.iterdir())) == 1


def test_bundled_and_unknown_tasksets_are_named_as_they_are() -> None:
    call_command("load_taskset", "starter")
    assert Taskset.objects.get().archive == ""
    assert shipping.source_here("starter") == "starter"
    assert shipping.source_here("/nowhere/at/all") == "/nowhere/at/all"
