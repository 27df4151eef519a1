"""Validating a taskset from its page: who may, what happens to the rows, the real process, and the end of it."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from webapp.leased_jobs import JobStatus
from webapp.tasksets import load, validations
from webapp.tasksets.jobs import validate as validate_job
from webapp.tasksets.models import Task, Taskset, Validation
from webapp.tasksets.supervise_validation import supervise_validation

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def own_folder(settings, tmp_path: Path) -> None:
    settings.VALIDATIONS_DIR = tmp_path / "validations"


@pytest.fixture
def staff(db: None) -> User:
    return User.objects.create_user("carol", is_staff=True)


@pytest.fixture
def taskset(tmp_path: Path) -> Taskset:
    """Two tasks: `good` is in order, the gold patch of `idle` changes nothing that is tested."""
    root = tmp_path / "pair"
    for name, fixed in (("good", "ONE = 1"), ("idle", "ONE = 3")):
        (root / name / "repo").mkdir(parents=True)
        (root / name / "tests").mkdir()
        (root / name / "repo" / "one.py").write_text("ONE = 2\n")
        (root / name / "tests" / "test_1.py").write_text(
            "from one import ONE\n\n\ndef test_one():\n    assert ONE == 1\n"
        )
        (root / name / "gold.patch").write_text(
            "diff --git a/one.py b/one.py\n--- a/one.py\n+++ b/one.py\n"
            f"@@ -1 +1 @@\n-ONE = 2\n+{fixed}\n"
        )
        (root / name / "task.toml").write_text(
            'problem_statement = "ONE must be 1."\n[expected_output]\ntest_one = "PASSED"\n'
        )
    (root / "taskset.toml").write_text('name = "pair"\ndocker_image = "deepswe-studio/starter:1"\n')
    return load.load(str(root))


def queued(taskset: Taskset, owner: User) -> Validation:
    validation = validations.request(taskset, owner)
    assert validation
    return validation


def page(client: Client, user: User | None = None) -> str:
    if user:
        client.force_login(user)
    return client.get("/tasksets/pair/").content.decode()


def test_the_button_queues_a_validation(client: Client, staff: User, taskset: Taskset) -> None:
    assert "/tasksets/pair/validate/" in page(client, staff)
    answer = client.post("/tasksets/pair/validate/")
    assert answer["Location"] == "/tasksets/pair/"
    validation = Validation.objects.get()
    assert (validation.taskset, validation.owner, validation.status) == (taskset, staff, "queued")
    assert validation.num_tasks == 2
    assert "/tasksets/pair/validate/stop/" in page(client)


def test_other_users_and_strangers_may_not(
    client: Client, staff: User, bob: User, taskset: Taskset
) -> None:
    assert client.post("/tasksets/pair/validate/")["Location"].startswith("/sign-in/")
    client.force_login(bob)
    assert "/tasksets/pair/validate/" not in page(client)
    assert client.post("/tasksets/pair/validate/").status_code == 403
    queued(taskset, staff)
    assert client.post("/tasksets/pair/validate/stop/").status_code == 403
    assert Validation.objects.get().status == JobStatus.QUEUED
    client.force_login(staff)
    assert client.get("/tasksets/pair/validate/").status_code == 405
    assert client.post("/tasksets/none/validate/").status_code == 404


def test_one_at_a_time(client: Client, staff: User, taskset: Taskset) -> None:
    queued(taskset, staff)
    client.force_login(staff)
    answer = client.post("/tasksets/pair/validate/", follow=True)
    assert "pair is being validated already." in answer.content.decode()
    assert Validation.objects.count() == 1


def test_the_page_asks_few_questions(
    client: Client, staff: User, taskset: Taskset, django_assert_max_num_queries: Callable
) -> None:
    queued(taskset, staff)
    client.force_login(staff)
    for address in ("/tasksets/pair/", "/tasksets/pair/validation/"):
        with django_assert_max_num_queries(8):
            assert client.get(address).status_code == 200


def test_a_validation_runs_to_its_end_and_the_page_shows_it(
    client: Client, staff: User, taskset: Taskset
) -> None:
    validation = queued(taskset, staff)
    Validation.objects.update(runs=1)
    validate_job(str(validation.id))
    validation.refresh_from_db()
    assert (validation.status, validation.reason) == ("finished", "1 of 2 tasks accepted.")
    assert (validation.num_judged, validation.num_accepted, validation.num_excluded) == (2, 1, 1)
    verdicts = dict(Task.objects.values_list("task_id", "validation"))
    assert verdicts["pair/good"] == {"valid": True, "reason": "", "runs": 1}
    assert "gold patch does not pass" in verdicts["pair/idle"]["reason"]
    shown = page(client, staff)
    assert "gold patch does not pass" in shown
    assert "1 of 2 tasks accepted." in shown
    validate_job(str(validation.id))
    validation.refresh_from_db()
    assert validation.num_judged == 2
    again = queued(taskset, staff)
    Validation.objects.filter(id=again.id).update(runs=1)
    validate_job(str(again.id))
    again.refresh_from_db()
    assert (again.status, again.num_judged, again.num_accepted) == ("finished", 2, 1)


def test_a_taskset_that_is_gone_fails_with_what_was_said(staff: User, taskset: Taskset) -> None:
    validation = queued(taskset, staff)
    Taskset.objects.update(source="/nowhere/at/all", archive="tasksets/gone.json")
    validate_job(str(validation.id))
    validation.refresh_from_db()
    assert validation.status == JobStatus.FAILED
    assert "exit code 2" in validation.reason
    assert "taskset.toml not found" in validation.reason


def test_a_worker_that_is_shut_down_gives_it_back(staff: User, taskset: Taskset) -> None:
    validation, shutdown = queued(taskset, staff), threading.Event()
    Validation.objects.update(runs=100)  # minutes of gradings, of which the first are cut short
    shutdown.set()
    supervise_validation(validation.id, shutdown)
    validation.refresh_from_db()
    assert (validation.status, validation.lease) == (JobStatus.QUEUED, None)
    assert "shut down" in validation.reason


def test_a_stop_reaches_queued_and_running_ones(
    client: Client, staff: User, taskset: Taskset
) -> None:
    client.force_login(staff)
    first = queued(taskset, staff)
    client.post("/tasksets/pair/validate/stop/")
    first.refresh_from_db()
    assert (first.status, first.reason) == ("stopped", "Stopped by carol.")
    second = queued(taskset, staff)
    lease = validations.claim(second.id)
    assert lease
    client.post("/tasksets/pair/validate/stop/")
    second.refresh_from_db()
    assert second.status == JobStatus.STOPPING
    Validation.objects.settle(second.id, lease, JobStatus.FAILED, "Its process was killed.")
    second.refresh_from_db()
    assert (second.status, second.reason) == ("stopped", "Stopped by carol.")


def test_what_was_finished_before_its_stop_was_seen_is_finished(
    staff: User, taskset: Taskset
) -> None:
    validation = queued(taskset, staff)
    lease = validations.claim(validation.id)
    assert lease
    assert taskset.validations.request_stop(by="carol")
    Validation.objects.settle(validation.id, lease, JobStatus.FINISHED, "All accepted.")
    validation.refresh_from_db()
    assert (validation.status, validation.reason) == ("finished", "All accepted.")


def test_what_a_dead_worker_held_is_queued_again_and_two_claims_give_one_lease(
    staff: User, taskset: Taskset
) -> None:
    validation = queued(taskset, staff)
    lease = validations.claim(validation.id)
    assert lease
    assert validations.claim(validation.id) is None
    past = timezone.now() - timedelta(seconds=1)
    Validation.objects.update(lease_expires_at=past)
    validations.reap()
    validation.refresh_from_db()
    assert validation.status == JobStatus.QUEUED
    assert not Validation.objects.renew(validation.id, lease)
    assert validations.claim(validation.id)


def test_the_panel_asks_for_the_page_once_it_has_ended(
    client: Client, staff: User, taskset: Taskset
) -> None:
    client.force_login(staff)
    queued(taskset, staff)
    answer = client.get("/tasksets/pair/validation/", headers={"HX-Request": "true"})
    assert "HX-Refresh" not in answer
    assert 'data-refresh="5"' in answer.content.decode()
    taskset.validations.request_stop(by="carol")
    answer = client.get("/tasksets/pair/validation/", headers={"HX-Request": "true"})
    assert answer["HX-Refresh"] == "true"
