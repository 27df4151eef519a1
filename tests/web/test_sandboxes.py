"""The sandboxes of the workers page: what is counted, who may remove what nobody holds, and the real process that does."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from sandbox.base import SandboxLabels, SandboxSpec
from sandbox.bubblewrap.backend import BubblewrapBackend
from sandbox.rootfs import COMPOSED_IMAGE
from webapp.runs.models import Worker
from webapp.sandboxes import sweeps
from webapp.sandboxes.jobs import sweep as sweep_job
from webapp.sandboxes.models import Sweep, SweepStatus

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def carol(db: None) -> User:
    return User.objects.create_user("carol", is_staff=True)


@pytest.fixture
def backend(tmp_path: Path, settings) -> Iterator[BubblewrapBackend]:
    """One whose records the worker of these tests finds; no engine and no cluster is in its reach."""
    options = tmp_path / "options.toml"
    options.write_text(f'[bubblewrap]\nstate = "{tmp_path}/sandboxes"\n')
    settings.CHILD_ENVIRONMENT = settings.CHILD_ENVIRONMENT | {
        "SANDBOX_OPTIONS": str(options),
        "DOCKER_HOST": f"unix://{tmp_path}/no.sock",
        "KUBECONFIG": f"{tmp_path}/no.yaml",
    }
    made = BubblewrapBackend(state=tmp_path / "sandboxes")
    yield made
    made.close()


def create(backend: BubblewrapBackend, expires: float) -> str:
    labels = SandboxLabels(run="run", rollout="r", owner="test:1", expires=expires)
    spec = SandboxSpec(docker_image=COMPOSED_IMAGE, labels=labels, files={"a.py": b""})
    return backend.create(replace(spec, memory_mib=64, disk_mib=8)).id


def newest() -> Sweep:
    found = Sweep.objects.first()
    assert found
    return found


def page(client: Client, user: User) -> str:
    client.force_login(user)
    return client.get("/workers/").content.decode()


def test_the_buttons_count_and_remove_what_nobody_holds(
    client: Client, carol: User, backend: BubblewrapBackend
) -> None:
    held, expired = create(backend, time.time() + 600), create(backend, time.time() - 1)
    assert "Nobody has looked yet" in page(client, carol)

    assert client.post("/sandboxes/look/")["Location"] == "/workers/"
    sweep_job(str(newest().id))
    shown = page(client, carol)
    assert '<span class="chip chip-infra">1</span>' in shown
    assert "not in use there" in shown

    client.post("/sandboxes/remove-expired/")
    sweep_job(str(newest().id))
    removal = newest()
    assert (removal.status, removal.removed, removal.errors) == ("finished", [expired], [])
    assert [row["id"] for row in removal.recorded["bubblewrap"]] == [held]
    shown = " ".join(page(client, carol).split())
    assert 'Removed <span class="num">1</span> expired sandbox' in shown
    assert "asked for by carol" in shown
    assert "chip-infra" not in shown

    sweep_job(str(removal.id))
    assert newest().removed == [expired]


def test_other_users_look_and_strangers_do_not(client: Client, bob: User, carol: User) -> None:
    for address in ("/sandboxes/look/", "/sandboxes/remove-expired/"):
        client.logout()
        assert client.post(address)["Location"].startswith("/sign-in/")
        assert address not in page(client, bob)
        assert client.post(address).status_code == 403
        client.force_login(carol)
        assert client.get(address).status_code == 405
    assert not Sweep.objects.exists()


def test_a_second_removal_is_refused_while_one_is_under_way(client: Client, carol: User) -> None:
    client.force_login(carol)
    client.post("/sandboxes/remove-expired/")
    answer = client.post("/sandboxes/remove-expired/", follow=True).content.decode()
    assert "under way already" in answer
    assert "waits for a worker" in answer
    assert Sweep.objects.count() == 1


def test_the_periodic_removal_comes_every_ten_minutes_to_a_worker_that_has_settled(
    worker: Worker,
) -> None:
    Worker.objects.update(queues=["default"])
    sweeps.keep_up()
    assert not Sweep.objects.exists()
    Worker.objects.update(started_at=timezone.now() - timedelta(minutes=2))
    sweeps.keep_up()
    sweeps.keep_up()
    assert newest().removes
    Sweep.objects.update(
        status=SweepStatus.FINISHED, created_at=timezone.now() - timedelta(minutes=11)
    )
    sweeps.keep_up()
    assert Sweep.objects.count() == 2


def test_a_worker_that_died_is_not_waited_for_for_ever(carol: User) -> None:
    sweep = sweeps.request(removes=True, owner=carol)
    assert sweep
    long_ago = timezone.now() - timedelta(hours=1)
    Sweep.objects.update(status=SweepStatus.RUNNING, started_at=long_ago)
    sweeps.keep_up()
    sweep.refresh_from_db()
    assert (sweep.status, sweep.reason) == ("failed", "Its worker did not answer.")


def test_a_process_that_fails_is_quoted(
    carol: User, client: Client, backend: BubblewrapBackend, tmp_path: Path
) -> None:
    (tmp_path / "options.toml").write_text("[podman]\n")
    sweep = sweeps.request(removes=True, owner=carol)
    assert sweep
    sweeps.run(sweep.id)
    shown = page(client, carol)
    assert "failed: sandbox.reap ended with exit code 1: ValueError: SANDBOX_OPTIONS=" in shown


def test_the_page_asks_few_questions(
    client: Client, carol: User, worker: Worker, django_assert_max_num_queries: Callable
) -> None:
    sweeps.request(removes=True, owner=carol)
    client.force_login(carol)
    with django_assert_max_num_queries(8):
        client.get("/workers/")
