"""A studio of real processes for tests: what `manage.py studio` starts, and a browser for it.

It holds no claim about what they do; `test_studio` and `test_two_users` do.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from websockets.sync.client import ClientConnection, connect

from webapp import settings

WAIT_S = 150
LINK = re.compile(r"http://\S+/sign-in/link/\S+")


class Studio:
    """A studio and a browser that is signed in to it."""

    def __init__(self, var_dir: Path, process: subprocess.Popen[bytes], log: Path) -> None:
        self.var_dir, self.process, self.log = var_dir, process, log
        self.seen: set[psutil.Process] = set()
        link = wait_for(lambda: LINK.search(self.log.read_text()), self)
        parts = urlsplit(link.group())
        self.base = f"{parts.scheme}://{parts.netloc}"
        self.browser = httpx.Client(base_url=self.base, follow_redirects=True, timeout=10)
        self.browser.get(link.group())

    def api(self, path: str) -> Any:
        answer = self.browser.get(f"/api{path}")
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str) -> Any:
        headers = {"X-CSRFToken": self.browser.cookies["csrftoken"], "Referer": self.base}
        answer = self.browser.post(f"/api{path}", headers=headers)
        answer.raise_for_status()
        return answer.json()

    def listen(self, run_id: str, after: int) -> ClientConnection:
        """A websocket of the signed-in browser."""
        return connect(
            f"{self.base.replace('http', 'ws')}/ws/runs/{run_id}/?after={after}",
            additional_headers={"Cookie": f"sessionid={self.browser.cookies['sessionid']}"},
            origin=self.base,  # type: ignore[arg-type]
        )

    def processes(self, *words: str) -> list[psutil.Process]:
        """Those of this studio, descendants included, with all `words` in their command."""
        if self.process.poll() is None:
            self.seen.update(psutil.Process(self.process.pid).children(recursive=True))
        # A worker that changes its title loses its environment: remembered as a child.
        alive = {process for process in self.seen if is_alive(process)}
        return [
            process
            for process in alive | set(processes_of(self.var_dir))
            if process.pid != self.process.pid
            and all(word in command_of(process) for word in words)
        ]

    def kill(self, *words: str) -> None:
        (process,) = self.processes(*words)
        process.send_signal(signal.SIGKILL)

    def until(self, holds: Callable[[], Any], seconds: float = WAIT_S) -> Any:
        return wait_for(holds, self, seconds)


def wait_for(holds: Callable[[], Any], studio: Studio, seconds: float = WAIT_S) -> Any:
    """The first true value. Connections that fail are tried again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := holds():
                return found
        except (httpx.TransportError, OSError):
            pass
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s; the studio said:\n{studio.log.read_text()}")


def processes_of(var_dir: Path) -> Iterator[psutil.Process]:
    """Those with this VAR_DIR in their environment."""
    for process in psutil.process_iter():
        try:
            if is_alive(process) and process.environ().get("VAR_DIR") == str(var_dir):
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def command_of(process: psutil.Process) -> str:
    """Empty of one that has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def running_studio(
    folder: Path, port: int, trainer: list[str], *, demo: bool = True, **environment: str
) -> Iterator[Studio]:
    """`manage.py studio --demo` in `folder`, or without a run; nothing of it is left afterwards."""
    var_dir = folder / "var"
    var_dir.mkdir(exist_ok=True)
    log = folder / "studio.log"
    options = ["--demo"] if demo else []
    inherited = {"PATH": os.environ["PATH"], "HOME": str(folder), "VAR_DIR": str(var_dir)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "manage.py", "studio", *options, "--port", str(port)],
            cwd=settings.BASE_DIR,
            env=inherited | {"TRAINER_COMMAND": " ".join(trainer)} | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    studio = None
    try:
        studio = Studio(var_dir, process, log)
        yield studio
    finally:
        left = studio.processes() if studio else list(processes_of(var_dir))
        process.kill()
        for child in left:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait(WAIT_S)
        if studio:
            studio.browser.close()
