"""A launch that is sent again launches nothing more: with the key, on PostgreSQL and SQLite, at once or later."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone

from webapp import settings
from webapp.api.idempotency import KEPT
from webapp.api.models import ApiToken, KeptAnswer
from webapp.runs import lifecycle
from webapp.runs.models import Run

WANTED = {"recipe": "starter-cpu", "name": "tiny", "changes": {"num_steps": 3}}


@pytest.fixture
def token(alice: User) -> str:
    return ApiToken.issue(alice, "script")


def launch(
    token: str, key: str | None, wanted: dict[str, Any] | str = WANTED, path: str = "/api/runs"
) -> Any:
    headers = {"authorization": f"Bearer {token}"}
    if key is not None:
        headers["idempotency-key"] = key
    return Client(headers=headers).post(path, wanted, content_type="application/json")


def test_the_same_key_and_request_get_the_same_answer(token: str) -> None:
    first = launch(token, "a")
    run = Run.objects.get()
    lifecycle.request_stop(run, by="alice")
    again = launch(token, "a")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert first.json()["id"] == str(run.id)
    assert "Idempotency-Replayed" not in first
    assert again["Idempotency-Replayed"] == "true"
    assert Run.objects.count() == 1


def test_the_answer_is_that_of_a_launch_without_a_key(token: str) -> None:
    with_key, without = launch(token, "a").json(), launch(token, None).json()
    differing = {name for name in without if with_key[name] != without[name]}
    assert differing == {"id", "created_at"}
    assert list(with_key) == list(without)


def test_spaces_and_order_are_no_other_request(token: str) -> None:
    launch(token, "a", '{"recipe": "starter-cpu", "name": "tiny"}')
    assert launch(token, "a", '{"name":"tiny","recipe":"starter-cpu"}').status_code == 201
    assert Run.objects.count() == 1


@pytest.mark.parametrize("path", ["/api/runs", "/api/runs/{run}/clone"])
def test_the_same_key_for_another_request_is_refused(token: str, path: str) -> None:
    launched = launch(token, "a").json()
    other = {"changes": {"num_steps": 4}} | ({} if "{run}" in path else {"recipe": "starter-cpu"})
    answer = launch(token, "a", other, path.format(run=launched["id"]))
    assert answer.status_code == 422
    (problem,) = answer.json()["problems"]
    assert problem["field"] == "Idempotency-Key"
    assert "'a' was used for another request" in problem["message"]
    assert Run.objects.count() == 1


def test_a_clone_has_keys_too(token: str) -> None:
    path = f"/api/runs/{launch(token, None).json()['id']}/clone"
    answers = [launch(token, "a", {"changes": {"seed": 7}}, path).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert Run.objects.count() == 2


def test_keys_are_each_users_own(token: str, bob: User) -> None:
    launch(token, "a")
    assert launch(ApiToken.issue(bob, "script"), "a", WANTED | {"name": "bobs"}).status_code == 201
    assert Run.objects.count() == 2


def test_a_refused_request_leaves_its_key_free(token: str) -> None:
    refused = launch(token, "a", WANTED | {"changes": {"rollout": {"group_size": 1}}})
    assert refused.json()["problems"][0]["field"] == "rollout.group_size"
    missing = launch(token, "a", {}, f"/api/runs/{uuid4()}/clone")
    assert missing.status_code == 404
    assert not KeptAnswer.objects.exists()
    assert launch(token, "a").status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_a_key_of_no_use_is_refused(token: str, key: str) -> None:
    answer = launch(token, key)
    assert answer.status_code == 422
    assert "use 1 to 200" in answer.json()["problems"][0]["message"]
    assert not Run.objects.exists()


@pytest.mark.parametrize("body", ["{no json", "[" * 100000])
def test_a_body_that_is_no_json_is_refused(token: str, body: str) -> None:
    path = f"/api/evaluations/{uuid4()}/regrade"
    assert launch(token, "a", body, path).status_code == 400
    assert not KeptAnswer.objects.exists()


def test_a_key_is_free_again_after_a_day(token: str) -> None:
    launch(token, "a")
    KeptAnswer.objects.update(created_at=timezone.now() - KEPT - timedelta(seconds=1))
    assert launch(token, "a", WANTED | {"name": "next"}).json()["name"] == "next"
    assert KeptAnswer.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_at_once_on_postgresql_they_launch_one_run(token: str) -> None:
    assert connection.vendor == "postgresql"
    answers = at_once(8, lambda: launch(token, "a"))
    assert Run.objects.count() == 1
    assert {answer.json()["id"] for answer in answers} == {str(Run.objects.get().id)}


def at_once(number: int, send: Callable[[], Any]) -> list[Any]:
    """What `number` threads get that start together."""
    gate = threading.Barrier(number)

    def one(_: int) -> Any:
        gate.wait()
        try:
            return send()
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(one, range(number)))


ON_SQLITE = """
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from tests.web.test_idempotency import at_once, launch
from webapp.api.models import ApiToken
from webapp.runs.models import Run
call_command("migrate", verbosity=0)
assert connection.vendor == "sqlite"
token = ApiToken.issue(User.objects.create_user("alice"), "script")
answers = at_once(8, lambda: launch(token, "a"))
print(Run.objects.count(), len({answer.json()["id"] for answer in answers}))
"""


def test_at_once_on_sqlite_they_launch_one_run(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path), "LOG_LEVEL": "WARNING"}
    environment |= {"DEBUG": "true", "PUBLIC_URL": "http://testserver"}
    shown = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", ON_SQLITE],
        env=environment,
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.stdout == "1 1\n", shown.stderr
