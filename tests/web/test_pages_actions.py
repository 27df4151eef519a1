"""Launching, cloning, stopping and resuming from the pages."""

from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.test import Client

from trainer.config import HardwareConfig
from trainer.recipes import load_recipe
from webapp.runs.configs import shown
from webapp.runs.forms import RunForm
from webapp.runs.models import Run, RunStatus, Worker
from webapp.runs.placement import shortfall

UNKNOWN = UUID("11111111-1111-1111-1111-111111111111")


@pytest.fixture
def signed_in(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def posted(**changes: Any) -> dict[str, Any]:
    """The starter's form as a browser sends it, with changes by dotted path (`__` for the dot)."""
    data = load_recipe("starter-cpu").model_dump(mode="json")
    form = RunForm(None, recipe=data, base=data, name="mine")
    values = {name: form[name].value() for name in form.fields}
    sent = {name: value for name, value in values.items() if value is not False}
    return {
        "recipe": "starter-cpu",
        **sent,
        **{k.replace("__", "."): v for k, v in changes.items()},
    }


def test_the_form_as_it_stands_launches_the_recipe(signed_in: Client, alice: User):
    response = signed_in.post("/runs/new/", posted())
    run = Run.objects.get()
    assert response["Location"] == f"/runs/{run.pk}/"
    assert (run.name, run.owner, run.status) == ("mine", alice, RunStatus.QUEUED)
    assert run.config == load_recipe("starter-cpu").model_dump(mode="json")


def test_changed_fields_reach_the_configuration(signed_in: Client):
    signed_in.post("/runs/new/", posted(rollout__temperature="0.7", tasks__difficulties=["easy"]))
    config = Run.objects.get().config
    assert config["rollout"]["temperature"] == 0.7
    assert config["tasks"]["difficulties"] == ["easy"]


def test_names_are_typed_with_commas_between_them(signed_in: Client):
    signed_in.post("/runs/new/", posted(tasks__only=" bonus-points,leap-years ,"))
    assert Run.objects.get().config["tasks"]["only"] == ["bonus-points", "leap-years"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("rollout__group_size", "1", "needs at least 2 for a leave-one-out baseline"),
        ("rollout__temperature", "hot", "&#x27;hot&#x27;: input should be a valid number"),
        ("num_steps", "", "input should be a valid integer"),
        ("engine__max_model_len", "100", "raise it"),
        ("name", "", "This field is required"),
    ],
)
def test_an_impossible_value_is_told_beside_its_field(
    signed_in: Client, field: str, value: str, message: str
):
    response = signed_in.post("/runs/new/", posted(**{field: value}))
    assert response.status_code == 422
    assert message in response.content.decode()
    assert field.replace("__", ".") in response.context["form"].errors
    assert not Run.objects.exists()


def test_the_estimate_follows_the_form(signed_in: Client):
    changed = posted(rollout__group_size="4", num_steps="10")
    page = signed_in.post("/runs/new/estimate/", changed).content.decode()
    assert "320" in page  # 8 tasks x 4 rollouts x 10 steps
    assert "no worker is online" in page


def test_the_estimate_names_a_worker_that_can_take_the_run(signed_in: Client, worker: Worker):
    page = signed_in.post("/runs/new/estimate/", posted()).content.decode()
    assert f"{worker.name} can take it" in page


def test_the_estimate_names_impossible_fields(signed_in: Client):
    page = signed_in.post("/runs/new/estimate/", posted(rollout__group_size="1")).content.decode()
    assert "rollout.group_size" in page


def test_a_clone_shows_its_differences_and_remembers_its_origin(signed_in: Client, run: Run):
    page = signed_in.get(f"/runs/new/?clone={run.pk}").content.decode()
    assert "num_steps" in page
    assert "hardware.min_memory_gib" in page
    signed_in.post("/runs/new/", posted(clone=str(run.pk), num_steps="3"))
    clone = Run.objects.get(cloned_from=run)
    assert clone.num_steps == 3


def test_a_clone_of_an_older_run_has_the_defaults_of_fields_that_it_did_not_have(
    signed_in: Client, run: Run
):
    for section, field in (("evaluation", "untrained"), ("rollout", "max_staleness")):
        del run.config[section][field]
    del run.config["lora"]
    run.save()
    form = signed_in.get(f"/runs/new/?clone={run.pk}").context["form"]
    values = {
        name: form[name].value()
        for name in ("evaluation.untrained", "rollout.max_staleness", "lora.rank")
    }
    assert values == {"evaluation.untrained": True, "rollout.max_staleness": 0, "lora.rank": 0}


def test_what_this_version_cannot_read_is_not_cloned_and_says_why(signed_in: Client, run: Run):
    Run.objects.filter(pk=run.pk).update(config=run.config | {"teacher": "a larger model"})
    answer = signed_in.get(f"/runs/new/?clone={run.pk}", follow=True)
    assert answer.redirect_chain == [(f"/runs/{run.pk}/", 302)]
    assert "cannot be cloned: its configuration is none of this version" in answer.content.decode()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("algorithm.compact_filtering", "none"),
        ("evaluation.difficulties", "all"),
        ("tasks.only", "all"),
    ],
)
def test_an_empty_list_reads_as_what_it_means(path: str, words: str):
    assert shown([], path) == words


def test_a_gpu_that_is_too_small_is_told():
    needs = HardwareConfig(gpus_per_node=2, gpu_memory_gib=24)
    gpus = [{"name": "a", "memory_mib": mib} for mib in (24 << 10, 16 << 10, 23 << 10)]
    worker = Worker(memory_mib=65536, gpus=gpus[:2])
    assert shortfall(needs, worker) == "its GPUs have 16 GiB and the recipe needs 24"
    worker.gpus = gpus
    assert shortfall(needs, worker) == ""


def test_the_owner_stops_and_resumes(signed_in: Client, run: Run):
    assert signed_in.post(f"/runs/{run.pk}/stop/")["Location"] == f"/runs/{run.pk}/"
    run.refresh_from_db()
    assert run.status == RunStatus.STOPPED
    signed_in.post(f"/runs/{run.pk}/resume/")
    run.refresh_from_db()
    assert run.status == RunStatus.QUEUED


def test_stopping_what_has_ended_says_so(signed_in: Client, run: Run):
    Run.objects.update(status=RunStatus.FINISHED)
    response = signed_in.post(f"/runs/{run.pk}/stop/", follow=True)
    assert b"has already ended" in response.content


@pytest.mark.parametrize("action", ["stop", "resume"])
def test_others_may_look_and_not_touch(client: Client, bob: User, run: Run, action: str):
    client.force_login(bob)
    page = client.get(f"/runs/{run.pk}/").content.decode()
    assert f"/runs/{run.pk}/stop/" not in page
    assert client.post(f"/runs/{run.pk}/{action}/").status_code == 403
    run.refresh_from_db()
    assert run.status == RunStatus.QUEUED


@pytest.mark.parametrize("action", ["stop", "resume"])
def test_actions_need_a_known_run_and_a_post(signed_in: Client, run: Run, action: str):
    assert signed_in.post(f"/runs/{UNKNOWN}/{action}/").status_code == 404
    assert signed_in.get(f"/runs/{run.pk}/{action}/").status_code == 405


@pytest.mark.parametrize("address", ["/runs/new/", "/runs/new/estimate/"])
def test_strangers_are_sent_to_sign_in(client: Client, db: None, address: str):
    assert client.post(address, posted())["Location"].startswith("/sign-in/")
