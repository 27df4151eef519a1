"""Run one bwrap command with a deadline and an output cap, in flat memory, and learn its end from
bwrap's status fd.

Nothing here knows what a sandbox looks like: it gets a complete command line. What the agent prints
decides nothing; the exit code comes from a descriptor that the agent does not have.
"""

import json
import os
import select
import selectors
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from sandbox.errors import End

_CHUNK = 1 << 16
_DRAIN_S = 5.0
"""How long the streams of a killed command may stay open before the sandbox is given up."""


@dataclass(kw_only=True)
class Finished:
    """What came of one command line. `exit_code` is the command's own; None if it never exited by
    itself.
    """

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    exit_code: int | None = None
    end: End | None = None
    """TIMEOUT or OUTPUT_LIMIT when we ended it; None otherwise."""
    overflowed: set[str] = field(default_factory=set)
    started: bool = False
    """bwrap got as far as making the namespaces."""
    dead: bool = True
    """Everything the command started is known to be dead."""
    duration_s: float = 0.0


def run_confined(
    command: Callable[[int, int], Sequence[str]],
    *,
    seccomp: bytes,
    pass_fds: Sequence[int],
    stdin: bytes | None,
    timeout_s: float,
    max_output_bytes: int,
) -> Finished:
    """Run `command(status_fd, seccomp_fd)` to its end, the deadline or the cap. Raises OSError if
    it cannot be started or watched.
    """
    seccomp_read = _filled_pipe(seccomp)
    try:
        status_read, status_write = os.pipe()
    except OSError:
        os.close(seccomp_read)
        raise
    began = time.monotonic()
    try:
        process = subprocess.Popen(
            command(status_write, seccomp_read),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(status_write, seccomp_read, *pass_fds),
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
    except BaseException:
        os.close(status_read)
        raise
    finally:
        os.close(status_write)
        os.close(seccomp_read)
    finished = Finished()
    with process, os.fdopen(status_read, "rb", buffering=0) as status:
        _Loop(process, status.fileno(), finished, stdin, began + timeout_s, max_output_bytes).run()
    finished.duration_s = time.monotonic() - began
    return finished


def _filled_pipe(data: bytes) -> int:
    """The end to read of a pipe that holds `data`, which must be small."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return reading


class _Loop:
    """The read loop of one command: three streams in, one out, a deadline."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        status: int,
        finished: Finished,
        stdin: bytes | None,
        deadline: float,
        cap: int,
    ) -> None:
        self.process, self.status, self.finished, self.deadline, self.cap = (
            process,
            status,
            finished,
            deadline,
            cap,
        )
        self.stdin = memoryview(stdin or b"")
        self.status_bytes = bytearray()
        self.init: int | None = None
        self.selector = selectors.DefaultSelector()

    def run(self) -> None:
        assert self.process.stdout
        assert self.process.stderr
        try:
            self._read_from(self.process.stdout.fileno(), "stdout")
            self._read_from(self.process.stderr.fileno(), "stderr")
            self._read_from(self.status, "status")
            if self.process.stdin:
                os.set_blocking(self.process.stdin.fileno(), False)
                self.selector.register(self.process.stdin.fileno(), selectors.EVENT_WRITE, "stdin")
            self._until_closed()
            self._await_death()
        finally:
            self.process.kill()
            self.selector.close()
            if self.init is not None:
                os.close(self.init)

    def _read_from(self, fd: int, name: str) -> None:
        os.set_blocking(fd, False)
        self.selector.register(fd, selectors.EVENT_READ, name)

    def _until_closed(self) -> None:
        reading = {"stdout", "stderr", "status"}
        while reading:
            ready = self.selector.select(max(0.0, self.deadline - time.monotonic()))
            if not ready and time.monotonic() >= self.deadline:
                if self.finished.end is not None:
                    self.finished.dead = False
                    return
                self._end(End.TIMEOUT)
            for key, _ in ready:
                if key.data == "stdin":
                    self._feed(key.fd)
                elif not self._take(key.fd, key.data):
                    self.selector.unregister(key.fd)
                    reading.discard(key.data)

    def _feed(self, fd: int) -> None:
        assert self.process.stdin
        try:
            self.stdin = (
                self.stdin[os.write(fd, self.stdin[:_CHUNK]) :] if self.stdin else self.stdin
            )
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.stdin = memoryview(b"")
        if not self.stdin:
            self.selector.unregister(fd)
            self.process.stdin.close()

    def _take(self, fd: int, name: str) -> bool:
        """One chunk of a stream; False at its end."""
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        if name == "status":
            self.status_bytes += chunk
            self._read_status()
            return bool(chunk)
        kept: bytearray = getattr(self.finished, name)
        room = self.cap - len(kept)
        kept += chunk[:room]
        if len(chunk) > room:
            self.finished.overflowed.add(name)
            self._end(End.OUTPUT_LIMIT)
        return bool(chunk)

    def _read_status(self) -> None:
        """bwrap writes one JSON object a line: first child-pid, at the end exit-code."""
        while (cut := self.status_bytes.find(b"\n")) >= 0:
            row = json.loads(self.status_bytes[:cut])
            del self.status_bytes[: cut + 1]
            if "child-pid" in row:
                self.finished.started = True
                with suppress(ProcessLookupError):
                    self.init = os.pidfd_open(row["child-pid"])
            if "exit-code" in row:
                self.finished.exit_code = row["exit-code"]

    def _end(self, end: End) -> None:
        if self.finished.end is None:
            self.finished.end = end
            self.process.kill()
            self.deadline = time.monotonic() + _DRAIN_S

    def _await_death(self) -> None:
        """PID 1 of the namespace dies last: when it is gone, all it held is gone."""
        self.process.wait()
        if self.init is not None:
            poll = select.poll()
            poll.register(self.init, select.POLLIN)
            self.finished.dead = bool(poll.poll(_DRAIN_S * 1000))
