"""docs/api.md says what works: its commands run in order against a server, every body in OpenAPI has an example that fits."""

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.contrib.auth.models import User
from django.db import connection
from pytest_django.live_server_helper import LiveServer

from tests.web.conftest import STAND_IN
from webapp.api.api import api
from webapp.api.models import ApiToken
from webapp.runs.models import Run, RunStatus, Worker
from webapp.runs.supervise import supervise

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def trained(worker: Worker, settings) -> Iterator[None]:
    """Whatever is queued is trained by the stand-in, one after the other."""
    settings.TRAINER_COMMAND = [*STAND_IN[:-1], "0.02"]
    ending = threading.Event()

    def work() -> None:
        while not ending.wait(0.2):
            for run in Run.objects.filter(status=RunStatus.QUEUED):
                supervise(run.id, worker, ending)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ending.set()
    thread.join()


@pytest.mark.django_db(transaction=True)
def test_its_commands_do_what_they_say(live_server: LiveServer, trained: None, alice: User) -> None:
    commands = COMMANDS.findall(PAGE.read_text())
    assert len(commands) == 6
    shown = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", "\n".join(commands)],
        env=os.environ | {"STUDIO": live_server.url, "TOKEN": ApiToken.issue(alice, "script")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert '"by curl"' in shown.stdout
    assert '"execute_bash"' in shown.stdout
    assert Run.objects.count() == 2
    assert Run.objects.filter(name="by curl", status="finished", owner=alice).count() == 1


def bodies(schema: dict[str, Any]) -> dict[str, str]:
    """Operation -> the schema of its JSON body, for those that take one."""
    return {
        operation["operationId"]: operation["requestBody"]["content"]["application/json"]["schema"][
            "$ref"
        ].rpartition("/")[2]
        for methods in schema["paths"].values()
        for operation in methods.values()
        if "requestBody" in operation
    }


def examples(schema: dict[str, Any]) -> list[Any]:
    """Of the whole, or one put together from those of its fields."""
    shown = {
        name: field["examples"][0]
        for name, field in schema["properties"].items()
        if field.get("examples")
    }
    return schema.get("examples") or ([shown] if shown else [])


def test_every_body_has_an_example_that_fits() -> None:
    schema = api.get_openapi_schema()
    named = schema["components"]["schemas"]
    assert set(bodies(schema).values()) >= {"RunIn", "CloneIn"}
    for name in {*bodies(schema).values(), "ProblemsOut"}:
        assert examples(named[name]), f"{name} has no example"
        for example in examples(named[name]):
            jsonschema.validate(example, named[name] | {"components": schema["components"]})


def test_every_launch_names_its_idempotency_key() -> None:
    evaluation = "/api/evaluations/{evaluation_id}"
    for path in (
        "/api/runs",
        "/api/runs/{run_id}/clone",
        "/api/evaluations",
        "/api/evaluations/sweeps",
        f"{evaluation}/verify",
        f"{evaluation}/regrade",
    ):
        parameters = api.get_openapi_schema()["paths"][path]["post"]["parameters"]
        assert "Idempotency-Key" in [parameter["name"] for parameter in parameters]


def test_every_operation_on_runs_says_what_it_does() -> None:
    silent = [
        f"{method} {path}"
        for path, methods in api.get_openapi_schema()["paths"].items()
        for method, operation in methods.items()
        if "runs" in operation["tags"] and not operation.get("description")
    ]
    assert silent == []
