"""A whole studio of real processes: sign in, watch, kill any of them, stop; nothing lost or left.

Once as `make demo` starts it, with SQLite and no broker, and once with PostgreSQL and Redis.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.conftest import free_port
from tests.web.conftest import STAND_IN
from tests.web.running_studio import Studio, running_studio
from webapp import settings


@pytest.fixture(params=["embedded", "services"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "embedded":
        return {}
    database, redis = (request.getfixturevalue(f"{name}_url") for name in ("database", "redis"))
    return {"DATABASE_URL": database, "REDIS_URL": redis}


@pytest.fixture
def studio(tmp_path: Path, environment: dict[str, str]) -> Iterator[Studio]:
    trainer = [*STAND_IN, "--pace", "0.05"]
    with running_studio(tmp_path, free_port(), trainer, **environment) as studio:
        yield studio


def first_run(studio: Studio) -> dict[str, Any]:
    """The run that the demo queued, once it trains."""

    def running() -> Any:
        (run,) = studio.api("/runs")["runs"]
        return run if run["status"] == "running" else None

    run: dict[str, Any] = studio.until(running)
    return run


def hear(socket: ClientConnection, until_seq: int) -> list[int]:
    heard: list[int] = []
    while not heard or heard[-1] < until_seq:
        heard += [event["seq"] for event in json.loads(socket.recv(timeout=30))["events"]]
    return heard


def hear_to_the_end(studio: Studio, run_id: str, after: int) -> list[int]:
    """Listen until `finished`, and come back whenever the connection breaks."""
    heard: list[int] = [after]
    while True:
        socket = studio.until(partial(studio.listen, run_id, heard[-1]))
        with socket, suppress(ConnectionClosed):
            while True:
                events = json.loads(socket.recv(timeout=30))["events"]
                heard += [event["seq"] for event in events]
                if events[-1]["type"] == "finished":
                    return heard[1:]


def test_any_process_may_be_killed_and_nothing_is_lost(studio: Studio) -> None:
    run = first_run(studio)
    with studio.listen(run["id"], after=0) as socket:
        heard = hear(socket, until_seq=20)
        studio.kill("celery")
        heard += hear(socket, until_seq=heard[-1] + 20)
        studio.kill("uvicorn")
    (trainer,) = studio.processes("recorded_trainer")
    trainer.kill()
    studio.until(lambda: studio.api(f"/runs/{run['id']}")["attempt"] == 2)
    studio.post(f"/runs/{run['id']}/stop")
    heard += hear_to_the_end(studio, run["id"], after=heard[-1])

    ended = studio.until(lambda: stopped(studio, run["id"]))
    assert heard == [*range(1, ended["last_seq"] + 1)]
    (folder,) = (studio.var_dir / "runs").iterdir()
    assert (folder / "events.jsonl").read_bytes().count(b"\n") == ended["last_seq"]
    assert studio.processes("recorded_trainer") == []
    assert studio.processes("sleep") == []


def stopped(studio: Studio, run_id: str) -> Any:
    run = studio.api(f"/runs/{run_id}")
    return run if run["status"] == "stopped" else None


def test_a_stop_ends_everything_within_15_s(studio: Studio) -> None:
    run = first_run(studio)
    asked = time.monotonic()
    studio.post(f"/runs/{run['id']}/stop")
    studio.until(lambda: stopped(studio, run["id"]), seconds=15)
    assert studio.processes("recorded_trainer") == []
    assert studio.processes("sleep") == []
    assert time.monotonic() - asked < 15


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ending_the_studio_saves_the_run_and_leaves_nothing(
    studio: Studio, environment: dict[str, str], number: signal.Signals, tmp_path: Path
) -> None:
    run = first_run(studio)
    studio.process.send_signal(number)
    assert studio.process.wait(25) == 0
    assert studio.processes() == []

    with running_studio(tmp_path, free_port(), STAND_IN, **environment) as again:
        going_on = again.until(lambda: again.api(f"/runs/{run['id']}")["attempt"] == 2)
        assert going_on
        assert again.api("/runs")["total"] == 1


def test_a_killed_studio_takes_its_processes_with_it(studio: Studio) -> None:
    first_run(studio)
    assert len(studio.processes()) >= 4
    studio.process.kill()
    studio.process.wait()
    studio.until(lambda: not studio.processes(), seconds=25)


def test_a_second_studio_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with running_studio(tmp_path, free_port(), STAND_IN) as studio:
        second = subprocess.run(
            [sys.executable, "manage.py", "studio", "--port", str(free_port())],
            cwd=settings.BASE_DIR,
            env={"PATH": os.environ["PATH"], "VAR_DIR": str(studio.var_dir)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert second.returncode == 1
    assert "a studio is already at work" in second.stderr
