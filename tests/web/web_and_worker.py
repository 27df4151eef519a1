"""A web server and a worker that are started one by one, for tests in which they share less than a studio's do.

It holds no claim about them; `test_no_shared_disk` and `test_two_users` do.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx

from tests.conftest import free_port
from webapp import settings

WAIT_S = 150


class Side(NamedTuple):
    """Where one of the two processes lives."""

    environment: Mapping[str, str]
    python: Sequence[str] = (sys.executable,)
    """The interpreter, after whatever changes the user."""


@contextmanager
def web_and_worker(web: Side, worker: Side, *, queues: str) -> Iterator[str]:
    """Both at work; the address of the web server, which may not answer yet."""
    port = str(free_port())
    uvicorn = ["uvicorn", "webapp.asgi:application", "--port", port, "--log-level", "warning"]
    celery = ["celery", "--quiet", "--app", "webapp", "worker", "--pool", "threads"]
    celery += ["--concurrency", "2", "--queues", queues]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for side, module in ((web, uvicorn), (worker, celery)):
            command = [*side.python, "-m", *module]
            processes.append(subprocess.Popen(command, env=side.environment, cwd=settings.BASE_DIR))
        yield f"http://127.0.0.1:{port}"
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(WAIT_S)


def manage(environment: Mapping[str, str], *arguments: str) -> str:
    """Run a command of `manage.py`; the last line that it prints."""
    command = [sys.executable, "manage.py", *arguments]
    shown = subprocess.run(
        command, env=environment, cwd=settings.BASE_DIR, capture_output=True, text=True, check=True
    )
    return shown.stdout.strip().rpartition("\n")[2]


def sign_in_path(environment: Mapping[str, str], user: str) -> str:
    """What opens a session once."""
    return manage(environment, "sign_in_link", user).partition("8000")[2]


def until(holds: Callable[[], Any]) -> Any:
    """The first true value. Connections that fail are tried again."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            if found := holds():
                return found
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"not within {WAIT_S} s")
