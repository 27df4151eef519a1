"""The operating system's side of a run: its trainer process, and everything that process started.

The trainer outlives the worker that started it. A lock on RUN_DIR/process.lock, inherited by the
trainer, is held exactly as long as it lives, so a worker that is started again knows whether to
adopt it, and two can never write one run folder. Descendants carry the run's id in their
environment, so that none is left behind, whatever session it moved to. Nothing here knows the
database.
"""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psutil
from django.conf import settings

LOCK_FILE = "process.lock"
OUTPUT_FILE = "output.log"
MARK = "STUDIO_RUN"
GUARD = "trainer/nodes/guard.py"
"""A dead trainer's engines are ended by guards of their own, which also have their shared memory removed."""
GUARDS_S = 6.0


class Trainer:
    """One run's process: started here, or adopted from an earlier worker."""

    def __init__(self, run_id: UUID, run_dir: Path, child: subprocess.Popen[bytes] | None) -> None:
        self.run_id = run_id
        self.run_dir = run_dir
        self.child = child

    @property
    def alive(self) -> bool:
        if self.child:
            return self.child.poll() is None
        return is_alive(self.run_dir)

    @property
    def returncode(self) -> int | None:
        """Negative for a signal; None while it lives, and for an adopted one."""
        return self.child.poll() if self.child else None

    def stop(self) -> None:
        """Ask it to save a checkpoint and end. Its helpers are its own to end."""
        process = _process(_pid(self.run_dir))
        if process:
            process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once; its helpers end by themselves."""
        process = _process(_pid(self.run_dir))
        if process:
            process.kill()

    def sweep(self) -> None:
        """Kill what is left of it, descendants included, once its guards have done their work, or `GUARDS_S` are over."""
        deadline = time.monotonic() + GUARDS_S
        while time.monotonic() < deadline and any(map(_is_guard, _marked(self.run_id))):
            time.sleep(0.1)
        sweep(self.run_id)
        if self.child:
            self.child.wait()


def start(run_id: UUID, run_dir: Path) -> Trainer:
    """Start the trainer in its own session.

    Raises BlockingIOError when one is at work there, another OSError when the system refuses.
    """
    if not is_alive(run_dir):
        # A trainer that died may have left children that still hold its lock.
        sweep(run_id)
    with (run_dir / LOCK_FILE).open("a+") as lock, (run_dir / OUTPUT_FILE).open("ab") as output:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        child = subprocess.Popen(
            [*settings.TRAINER_COMMAND, str(run_dir), "--run-id", str(run_id)],
            cwd=settings.BASE_DIR,
            env=settings.CHILD_ENVIRONMENT | {MARK: str(run_id)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[lock.fileno()],
            start_new_session=True,
        )
        lock.write(str(child.pid))
    return Trainer(run_id, run_dir, child)


def adopt(run_id: UUID, run_dir: Path) -> Trainer | None:
    """The trainer that is at work on this folder, if one is."""
    return Trainer(run_id, run_dir, None) if is_alive(run_dir) else None


def is_alive(run_dir: Path) -> bool:
    return _is_locked(run_dir / LOCK_FILE) and _process(_pid(run_dir)) is not None


def sweep(run_id: UUID) -> None:
    """Kill every process that carries the run's mark, until none is left."""
    while marked := list(_marked(run_id)):
        for process in marked:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(marked, timeout=1)


def last_words(folder: Path) -> str:
    """The last line that the process of this folder printed, for people."""
    path = folder / OUTPUT_FILE
    lines = path.read_text(errors="replace").split("\n") if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _pid(run_dir: Path) -> int | None:
    """None when a worker died between starting the trainer and writing this."""
    text = (run_dir / LOCK_FILE).read_text()
    return int(text) if text else None


def _process(pid: int | None) -> psutil.Process | None:
    """The living process; a zombie is none."""
    try:
        process = psutil.Process(pid) if pid else None
        return process if process and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _marked(run_id: UUID) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(MARK) == str(run_id)
            if marked and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def _is_guard(process: psutil.Process) -> bool:
    try:
        return any(word.endswith(GUARD) for word in process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def held_locks(runs_dir: Path) -> Iterator[Path]:
    """Run folders with a trainer at work."""
    for path in runs_dir.glob(f"*/{LOCK_FILE}"):
        if is_alive(path.parent):
            yield path.parent
