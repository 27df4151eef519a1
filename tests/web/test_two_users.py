"""Web server and worker as two users of the system: they share no run folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx
import pytest

from tests.conftest import free_port, leave_out
from tests.web.conftest import STAND_IN
from webapp import settings

WEB, WORKER = 20001, 20002
WAIT_S = 150
SET_UP = """
from django.contrib.auth.models import User
from webapp.api.models import ApiToken
print(ApiToken.issue(User.objects.create_user("alice"), "test"))
"""


def run_as(user: int) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]


@pytest.fixture
def var_dir() -> Iterator[Path]:
    """The worker's; others may look in, but for what it closes."""
    if os.getuid() != 0:
        leave_out("only root can start processes of two users")
    folder = Path(mkdtemp(prefix="studio-two-users-", dir="/tmp"))
    folder.chmod(0o755)
    shutil.chown(folder, WORKER, WORKER)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def python() -> str:
    """An interpreter that ordinary users can run: root's own may lie in a closed home."""
    candidates = (sys.executable, "/usr/bin/python3.11", "/usr/local/bin/python3.11")
    runnable = [candidate for candidate in candidates if can_run(candidate)]
    if not runnable:
        leave_out("no Python 3.11 that ordinary users can run")
    return runnable[0]


def can_run(python: str) -> bool:
    trying = [*run_as(WEB), "/bin/sh", "-c", 'exec "$0" -c ""', python]
    return subprocess.run(trying, capture_output=True, check=False).returncode == 0


@pytest.fixture
def environment(var_dir: Path, database_url: str, redis_url: str, python: str) -> dict[str, str]:
    return {
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "PATH": os.environ["PATH"],
        "HOME": str(var_dir),
        "VAR_DIR": str(var_dir),
        "SECRET_KEY": "shared by web and worker",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "TRAINER_COMMAND": " ".join([python, *STAND_IN[1:]]),
    }


def manage(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    shown = subprocess.run(
        command, env=environment, cwd=settings.BASE_DIR, capture_output=True, text=True, check=True
    )
    return shown.stdout.strip().splitlines()[-1] if shown.stdout.strip() else ""


@pytest.fixture
def site(environment: dict[str, str], python: str) -> Iterator[httpx.Client]:
    """Both at work, and a script of alice's."""
    manage(environment, "migrate", "--verbosity", "0")
    token = manage(environment, "shell", "--no-imports", "-c", SET_UP)
    port = str(free_port())
    uvicorn = ["uvicorn", "webapp.asgi:application", "--port", port, "--log-level", "warning"]
    celery = ["celery", "--quiet", "--app", "webapp", "worker", "--pool", "threads"]
    celery += ["--concurrency", "2", "--queues", "train"]
    with ExitStack() as ending:
        for user, module in ((WEB, uvicorn), (WORKER, celery)):
            command = [*run_as(user), python, "-m", *module]
            process = subprocess.Popen(command, env=environment, cwd=settings.BASE_DIR)
            ending.callback(process.wait, WAIT_S)
            ending.callback(process.terminate)
        headers = {"authorization": f"Bearer {token}"}
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=10)
        yield ending.enter_context(client)


def until(holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            if found := holds():
                return found
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"not within {WAIT_S} s")


def test_the_web_user_shows_what_it_cannot_read(
    site: httpx.Client, environment: dict[str, str], var_dir: Path
) -> None:
    until(lambda: site.get("/api/health").json()["status"] == "ok")
    wanted = {"recipe": "starter-cpu", "changes": {"num_steps": 1}}
    run = site.post("/api/runs", json=wanted).json()
    path = f"/api/runs/{run['id']}"
    until(lambda: site.get(path).json()["status"] == "finished")

    run_dir = var_dir / "runs" / run["id"]
    assert run_dir.stat().st_uid == WORKER
    for file in ("events.jsonl", "config.toml"):
        assert (run_dir / file).is_file()
        reading = [*run_as(WEB), "cat", str(run_dir / file)]
        denied = subprocess.run(reading, capture_output=True, text=True, check=False)
        assert "Permission denied" in denied.stderr

    rollout = site.get(f"{path}/rollouts?purpose=train").json()["rollouts"][0]
    assert len(site.get(f"/api/rollouts/{rollout['id']}").json()["turns"]) == 2
    assert site.get(f"{path}/events").json()["events"][-1]["type"] == "finished"
    sign_in(site, environment)
    assert site.get(f"/runs/{run['id']}/").status_code == 200
    assert "1 test, reward" in site.get(f"/rollouts/{rollout['id']}/tests/").text


def sign_in(site: httpx.Client, environment: dict[str, str]) -> None:
    link = manage(environment, "sign_in_link", "alice")
    assert site.get(link.partition("8000")[2]).status_code == 302
