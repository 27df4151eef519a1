"""Web server and worker share a database, a broker and an object store, and no disk: a run launched on the page is trained
elsewhere, its end is told, and every page shows it when the worker's folder is gone.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from tests.conftest import free_port, wait_for_port
from tests.web.conftest import STAND_IN
from tests.web.receiver import Receiver, receiving
from tests.web.test_pages_actions import posted
from tests.web.web_and_worker import Side, manage, sign_in_path, until, web_and_worker

BUCKET = "studio"
SIGN_UP = "from django.contrib.auth.models import User; User.objects.create_user('alice')"


@pytest.fixture
def object_store() -> Iterator[dict[str, str]]:
    """The environment that leads to an S3 with one empty bucket: moto's server, a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port, process)
            keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
            place = {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
            bucket(keys | place).create()
            yield keys | place | {"STORAGE_URL": f"s3://{BUCKET}/one"}
        finally:
            process.terminate()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def bucket(environment: dict[str, str]) -> Any:
    resource = boto3.resource(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    return resource.Bucket(BUCKET)


@pytest.fixture
def shared(object_store: dict[str, str], database_url: str, redis_url: str) -> dict[str, str]:
    """What both processes are told alike."""
    return object_store | {
        "PATH": os.environ["PATH"],
        "SECRET_KEY": "shared by web and worker",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "TRAINER_COMMAND": " ".join(STAND_IN),
        "WEBHOOK_PRIVATE_ADDRESSES": "true",
    }


def own_disk(shared: dict[str, str], folder: Path) -> dict[str, str]:
    return shared | {"HOME": str(folder), "VAR_DIR": str(folder / "var")}


@pytest.fixture
def site(shared: dict[str, str], tmp_path: Path) -> Iterator[httpx.Client]:
    """Alice's browser, with a web server and a worker behind it, each with a disk of its own."""
    web, worker = (own_disk(shared, tmp_path / name) for name in ("web", "worker"))
    manage(web, "migrate", "--verbosity", "0")
    manage(web, "load_taskset", "starter")
    manage(web, "shell", "--no-imports", "-c", SIGN_UP)
    with (
        web_and_worker(Side(web), Side(worker), queues="train,default") as url,
        httpx.Client(base_url=url, follow_redirects=True, timeout=20) as browser,
    ):
        path = sign_in_path(web, "alice")
        until(lambda: browser.get(path).is_success)
        yield browser


def launch(browser: httpx.Client) -> str:
    """By the form, as it stands but for its steps; the run's id."""
    form = posted(num_steps="2", hardware__min_memory_gib="0.1")
    return submit(browser, "/runs/new/", form).url.path.split("/")[2]


def submit(browser: httpx.Client, path: str, form: dict[str, Any]) -> httpx.Response:
    """As a page's form does, once a page was opened."""
    return browser.post(path, data=form | {"csrfmiddlewaretoken": browser.cookies["csrftoken"]})


@pytest.mark.django_db  # of the form that `posted` fills in; the site has another database
def test_a_run_is_shown_without_the_disk_of_its_worker(
    site: httpx.Client, shared: dict[str, str], tmp_path: Path, receiver: Receiver
) -> None:
    site.get("/settings/")
    submit(site, "/settings/webhooks/", {"url": receiver.url})
    run = launch(site)
    api = f"/api/runs/{run}"
    until(lambda: site.get(api).json()["status"] == "finished")
    run_dir = tmp_path / "worker" / "var" / "runs" / run
    assert (run_dir / "events.jsonl").is_file()
    assert not (tmp_path / "web" / "var" / "runs").exists()
    (tmp_path / "worker").rename(tmp_path / "gone")
    until(lambda: receiver.received)
    message = json.loads(receiver.received[0].body)
    assert (message["type"], message["data"]["id"]) == ("run.finished", run)
    until(lambda: "status-passed" in site.get("/settings/").text)

    for page in ("", "steps/", "steps/1/", "live/", "config/", "log/"):
        assert site.get(f"/runs/{run}/{page}").status_code == 200, page
    rollouts = site.get(f"{api}/rollouts?purpose=train").json()["rollouts"]
    solved = next(row["id"] for row in rollouts if row["reward"] == 1)
    for page in ("", "tokens/", "raw/"):
        assert site.get(f"/rollouts/{solved}/{page}").status_code == 200, page
    assert "1 test, reward 1.0" in site.get(f"/rollouts/{solved}/tests/").text
    assert "prices.py" in site.get(f"/rollouts/{solved}/patch/").text
    stored = {item.key for item in bucket(shared).objects.all()}
    assert f"one/runs/{run}/rollouts/{solved}.log" in stored
    assert not list((tmp_path / "web" / "var").glob("media/**/*.log"))
