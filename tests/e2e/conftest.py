"""A studio of its own and a browser for it: the same processes that `manage.py studio` starts."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.conftest import free_port
from tests.images.fixtures import built, nodes, r2e_engine

__all__ = ["built", "nodes", "r2e_engine"]

CHECKOUT = Path(__file__).resolve().parents[2]
LINK = re.compile(rb"http://\S+/sign-in/link/\S+")
START_TIMEOUT_S = 120
QUIET = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"]
CHROMIUM_FLAGS = [
    f"--{flag}" for flag in (*QUIET, "disable-background-networking", "disable-component-update")
]
STAND_IN = f"{sys.executable} -m tests.web.recorded_trainer --pace 0.25"


@pytest.fixture
def studio_link(tmp_path: Path) -> Iterator[str]:
    """The one-time link that a studio prints; its trainer is the recorded stand-in."""
    port = free_port()
    environment = os.environ | {
        "VAR_DIR": str(tmp_path / "var"),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "TRAINER_COMMAND": STAND_IN,
    }
    for name in ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE"):
        environment.pop(name, None)
    said = tmp_path / "studio.log"
    command = [sys.executable, "manage.py", "studio", "--port", str(port)]
    with (
        said.open("wb") as out,
        subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdout=out, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield wait_for_link(said, process)
        finally:
            process.terminate()
            process.wait(60)


def wait_for_link(said: Path, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if found := LINK.search(said.read_bytes()):
            return found[0].decode()
        time.sleep(0.2)
    pytest.fail(f"the studio printed no link:\n{said.read_text()}")


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=CHROMIUM_FLAGS
        )
        yield chromium
        chromium.close()
