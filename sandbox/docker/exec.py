"""One command in a container, read by our own loop: a deadline, an output cap, flat memory, an
honest end.

The client library's own calls have no deadline and keep all output. An end of stream proves nothing
(an engine that dies ends it cleanly too): a command has exited only when the engine says so with an
integer exit code. What becomes of processes that the command leaves is `sandbox.docker.sandbox`'s
affair, and how long an engine may be silent is `sandbox.docker.api`'s. Frames: docs.docker.com, Engine
API, "attach": 1 byte stream, 3 bytes zero, 4 bytes length, big-endian.
"""

import selectors
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sandbox.base import ExecResult
from sandbox.docker.api import LOST, EngineApi
from sandbox.errors import End

_CHUNK = 1 << 16
_POLL_S = 0.2
"""How often the engine is asked whether a silent command still runs: its children may hold the
stream open.
"""
_CLOSED_POLL_S = 0.05
"""How often it is asked about a command that has closed its streams and runs on."""
_REST_S = 5.0
"""How long the last output of a command that has exited may take to arrive; less when its deadline is near."""
_LEAST_REST_S = 1.0
_SHORT_S = 10.0
"""A short command takes 0.05 s on an idle machine."""
_STREAMS = {1: "stdout", 2: "stderr"}
_HEADER = 8


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run, and as whom."""

    argv: Sequence[str]
    user: str
    """`uid:gid`."""
    env: Mapping[str, str]
    stdin: bytes | None = None
    deadline: float
    """Of time.monotonic."""
    max_output_bytes: int


class Ran(NamedTuple):
    """A command that the engine took on."""

    result: ExecResult
    started: bool
    """False when the engine says that it never became a process: nothing in the container ran."""


class _Status(NamedTuple):
    exit_code: int
    started: bool


def run_exec(
    api: EngineApi, container: str, command: Command, kill_left: Callable[[], None] | None = None
) -> Ran:
    """Run to its end, the deadline or the cap. It may leave processes behind; `kill_left` ends them
    when the command has exited and they hold its streams open.

    An engine that is lost meanwhile gives the end UNKNOWN: the command may have run, or may still.
    Raises APIError, OSError if the engine does not take the command on, and what `kill_left` raises
    beside those.
    """
    began = time.monotonic()
    created = api.exec_create(
        container,
        list(command.argv),
        user=command.user,
        environment=dict(command.env),
        stdin=command.stdin is not None,
    )["Id"]
    stream = _Stream(api.exec_start(created, socket=True), command.stdin, command.max_output_bytes)
    status: _Status | None = None
    try:
        end, status = _follow(stream, command.deadline, lambda: _exit_status(api, created))
        if end is End.EXITED and not stream.ended:
            end = _read_rest(stream, command.deadline, kill_left)
    except LOST:
        end = End.UNKNOWN
    finally:
        stream.close()
    result = ExecResult(
        stdout=bytes(stream.kept["stdout"]),
        stderr=bytes(stream.kept["stderr"]),
        end=end,
        exit_code=status.exit_code if status and end is End.EXITED else None,
        duration_s=time.monotonic() - began,
        stdout_truncated="stdout" in stream.overflowed,
        stderr_truncated="stderr" in stream.overflowed,
    )
    return Ran(result, status is None or status.started)


def _follow(
    stream: "_Stream", deadline: float, ask: Callable[[], _Status | None]
) -> tuple[End, _Status | None]:
    """Read until the command ends; why it ended, and with what when it exited by itself."""
    status: _Status | None = None

    def exited() -> bool:
        nonlocal status
        status = status or ask()
        return status is not None

    given_up = stream.run(deadline, exited)
    if given_up is not None:
        return given_up, None
    while not exited():
        if time.monotonic() >= deadline:
            return End.TIMEOUT, None
        time.sleep(_CLOSED_POLL_S)
    return End.EXITED, status


def _read_rest(stream: "_Stream", deadline: float, kill_left: Callable[[], None] | None) -> End:
    """The output of a command that has exited may still be on its way, and its children may hold the
    streams open: with them dead, the streams end behind the last byte.
    """
    if kill_left is not None:
        kill_left()
    now = time.monotonic()
    rest_s = min(_REST_S, _LEAST_REST_S + max(0.0, deadline - now))
    given_up = stream.run(now + rest_s, lambda: False)
    return End.OUTPUT_LIMIT if given_up is End.OUTPUT_LIMIT else End.EXITED


def _exit_status(api: EngineApi, exec_id: str) -> _Status | None:
    """Of a command that no longer runs; None while it does. Raises APIError, OSError."""
    row = api.exec_inspect(exec_id)
    if row["Running"] or not isinstance(row["ExitCode"], int):
        return None
    return _Status(row["ExitCode"], started=row["Pid"] != 0)


def exec_exit_code(api: EngineApi, container: str, argv: Sequence[str], user: str) -> int | None:
    """Run a short trusted command whose output does not matter; None if it cannot be started or does
    not end in time. Raises APIError, OSError.
    """
    deadline = time.monotonic() + _SHORT_S
    command = Command(argv=argv, user=user, env={}, deadline=deadline, max_output_bytes=_CHUNK)
    ran = run_exec(api, container, command)
    return ran.result.exit_code if ran.started else None


def _came_with_answer(response: Any) -> bytes:
    """Output that arrived in one piece with the engine's HTTP answer: it lies in the reader of that answer, and not in the
    socket any more. Were it left there, every frame behind it would be misread.
    """
    answer = getattr(response, "_response", None)
    return bytes(answer.raw._fp.fp.peek()) if answer is not None else b""


class _Stream:
    """The hijacked connection of one command."""

    def __init__(self, response: Any, stdin: bytes | None, cap: int) -> None:
        self._response, self._cap = response, cap
        self._socket: socket.socket = getattr(response, "_sock", response)
        self._socket.setblocking(False)
        self._stdin = memoryview(stdin or b"")
        self._writing = stdin is not None
        self._raw = bytearray(_came_with_answer(response))
        self._left, self._name = 0, ""
        self.kept = {"stdout": bytearray(), "stderr": bytearray()}
        self.overflowed: set[str] = set()
        self.ended = False
        """The engine has closed the stream: no more output can come."""
        self._parse()

    def run(self, deadline: float, exited: Callable[[], bool]) -> End | None:
        """None when the stream ended or the command has exited; else why it was given up."""
        with selectors.DefaultSelector() as selector:
            selector.register(
                self._socket, selectors.EVENT_READ | (selectors.EVENT_WRITE if self._writing else 0)
            )
            while (left := deadline - time.monotonic()) > 0:
                ready = selector.select(min(left, _POLL_S))
                if not ready and exited():
                    return None
                for _, events in ready:
                    if events & selectors.EVENT_WRITE and not self._feed():
                        selector.modify(self._socket, selectors.EVENT_READ)
                    if events & selectors.EVENT_READ and not self._take():
                        self.ended = True
                if self.overflowed:
                    return End.OUTPUT_LIMIT
                if self.ended:
                    return None
        return End.TIMEOUT

    def _feed(self) -> bool:
        """Send some of the input; False when all is sent or nobody reads."""
        try:
            if self._stdin:
                self._stdin = self._stdin[self._socket.send(self._stdin[:_CHUNK]) :]
            if self._stdin:
                return True
            self._socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _take(self) -> bool:
        """Read some output; False at the end of the stream."""
        try:
            chunk = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        self._raw += chunk
        self._parse()
        return bool(chunk)

    def _parse(self) -> None:
        """Keep what the frames that have arrived hold."""
        while self._raw:
            if not self._left:
                if len(self._raw) < _HEADER:
                    break
                kind, self._left = struct.unpack(">BxxxL", self._raw[:_HEADER])
                self._name = _STREAMS.get(kind, "stderr")
                del self._raw[:_HEADER]
            part = bytes(self._raw[: self._left])
            del self._raw[: len(part)]
            self._left -= len(part)
            self._keep(part)

    def _keep(self, part: bytes) -> None:
        kept = self.kept[self._name]
        room = self._cap - len(kept)
        kept += part[:room]
        if len(part) > room:
            self.overflowed.add(self._name)

    def close(self) -> None:
        """An unread stream that stays open would hold up the container's removal."""
        self._socket.close()
        self._response.close()
