"""Everything on one machine: web server and worker as child processes, and the periodic reaper.

A child that dies is started again. Ending the studio ends them, and the worker ends its runs after
they saved a checkpoint; so does killing it, since the kernel tells the children. Trainers are the
worker's: this knows none of them.
"""

import ctypes
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings
from django.db import DatabaseError, close_old_connections

from webapp.assessments import lifecycle as assessments
from webapp.evaluations import lifecycle as evaluations
from webapp.runs import lifecycle
from webapp.sandboxes import sweeps
from webapp.tasksets import validations
from webapp.webhooks import deliver

logger = logging.getLogger(__name__)

POLL_S = 0.25
REAP_S = 3.0
MAX_BACKOFF_S = 30.0
HEALTHY_S = 60.0
"""A child that lived so long starts again at once when it dies."""
READY_TIMEOUT_S = 120.0
WEB_GRACE_S = 5
PR_SET_PDEATHSIG = 1

Say = Callable[[str], None]
PLACE_FILE = "studio.place"
"""Below VAR_DIR: HOST:PORT of the studio that was started last, for commands that are not told where it is."""
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000


def keep_place(host: str, port: int) -> None:
    (settings.VAR_DIR / PLACE_FILE).write_text(f"{host}:{port}")


def address() -> str:
    """By which people reach the studio that was started last, or that of the defaults."""
    file = settings.VAR_DIR / PLACE_FILE
    place = file.read_text() if file.exists() else f"{DEFAULT_HOST}:{DEFAULT_PORT}"
    return settings.PUBLIC_URL or f"http://{place}"


@dataclass(kw_only=True)
class Child:
    """A process that is to be there, and is started again when it is not."""

    name: str
    command: list[str]
    grace_s: float
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    backoff_s: float = 0.0
    due_at: float = 0.0

    def start(self) -> None:
        """In a session of its own: Ctrl-C reaches the studio alone, which ends them in order."""
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )

    def keep(self, say: Say) -> None:
        """Start it again when it has died, later and later while it keeps dying."""
        if self.process and self.process.poll() is not None:
            lived = time.monotonic() - self.started_at
            doubled = min(max(1.0, self.backoff_s * 2), MAX_BACKOFF_S)
            self.backoff_s = 0.0 if lived > HEALTHY_S else doubled
            self.due_at = time.monotonic() + self.backoff_s
            code = self.process.returncode
            say(f"{self.name} died ({_ending(code)}); starts again in {self.backoff_s:.0f} s")
            self.process = None
        if self.process is None and time.monotonic() >= self.due_at:
            self.start()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(self.grace_s)
        except subprocess.TimeoutExpired:
            logger.warning("%s did not end in %.0f s: killed", self.name, self.grace_s)
            self.process.kill()
            self.process.wait()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def web(host: str, port: int) -> Child:
    command = [sys.executable, "-m", "uvicorn", "webapp.asgi:application", "--no-access-log"]
    command += ["--host", host, "--port", str(port), "--log-level", "warning"]
    command += ["--timeout-graceful-shutdown", "2"]
    return Child(name="web server", command=command, grace_s=WEB_GRACE_S)


def worker() -> Child:
    """One for all queues. Threads: a supervisor mostly sleeps, and short jobs go on beside it."""
    command = [sys.executable, "-m", "celery", "--quiet", "--app", "webapp", "worker"]
    command += ["--pool", "threads", "--concurrency", "4", "--queues", "train,evaluate,default"]
    command += ["--hostname", "studio@%h", "--loglevel", "WARNING"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return Child(name="worker", command=command, grace_s=settings.STOP_GRACE_S + 10)


def run(children: list[Child], *, say: Say, ready: Callable[[], None]) -> None:
    """Keep the children up until SIGINT or SIGTERM; call `ready` once, when all are started."""
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    try:
        for child in children:
            child.start()
        ready()
        reaped_at = 0.0
        while not ending.wait(POLL_S):
            for child in children:
                child.keep(say)
            if time.monotonic() - reaped_at > REAP_S:
                reaped_at = time.monotonic()
                _reap()
    finally:
        say("stopping: a run that is training saves a checkpoint first (up to 15 s)")
        for child in reversed(children):
            child.stop()
        say("everything has stopped")


def _reap() -> None:
    """A database that is away is no reason to take the pages and the training down."""
    try:
        lifecycle.reap()
        evaluations.reap()
        assessments.reap()
        validations.reap()
        sweeps.keep_up()
        deliver.reap()
    except DatabaseError as error:
        logger.warning("reaper: %s", error)
        close_old_connections()


def is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def wait_until_served(host: str, port: int) -> bool:
    """Whether something answers there in time."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False
