"""Web server and worker as two users of the system: they share no run folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import httpx
import pytest

from tests.conftest import leave_out
from tests.web.conftest import STAND_IN
from tests.web.web_and_worker import Side, manage, sign_in_path, until, web_and_worker

WEB, WORKER = 20001, 20002
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


@pytest.fixture
def site(environment: dict[str, str], python: str) -> Iterator[httpx.Client]:
    """Both at work, and a script of alice's."""
    manage(environment, "migrate", "--verbosity", "0")
    token = manage(environment, "shell", "--no-imports", "-c", SET_UP)
    web, worker = (Side(environment, [*run_as(user), python]) for user in (WEB, WORKER))
    headers = {"authorization": f"Bearer {token}"}
    with (
        web_and_worker(web, worker, queues="train") as url,
        httpx.Client(base_url=url, headers=headers, timeout=10) as client,
    ):
        yield client


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
    assert site.get(sign_in_path(environment, "alice")).status_code == 302
    assert site.get(f"/runs/{run['id']}/").status_code == 200
    assert "1 test, reward" in site.get(f"/rollouts/{rollout['id']}/tests/").text
