"""One command in a container, read by our own loop: a deadline, an output cap, flat memory, an
honest end.

The client library's own calls have no deadline and keep all output. An end of stream proves nothing
(an engine that dies ends it cleanly too): a command has exited only when the engine says so with an
integer exit code. Frames: docs.docker.com, Engine API, "attach": 1 byte stream, 3 bytes zero, 4
bytes length, big-endian.
"""

import selectors
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.base import ExecResult
from sandbox.errors import End

_CHUNK = 1 << 16
_POLL_S = 0.2
"""How often the engine is asked whether a silent command still runs: its children may hold the
stream open.
"""
_STREAMS = {1: "stdout", 2: "stderr"}


def run_exec(
    api: Any,
    container: str,
    argv: Sequence[str],
    *,
    user: str,
    env: Mapping[str, str],
    stdin: bytes | None,
    timeout_s: float,
    max_output_bytes: int,
) -> ExecResult:
    """Run `argv` to its end, the deadline or the cap. It may leave processes behind. Raises
    APIError, OSError.
    """
    began = time.monotonic()
    created = api.exec_create(
        container, list(argv), user=user, environment=dict(env), stdin=stdin is not None
    )
    response = api.exec_start(created["Id"], socket=True)
    stream = _Stream(response, stdin, max_output_bytes)
    try:
        end = stream.run(began + timeout_s, lambda: _exit_code(api, created["Id"]) is not None)
    finally:
        stream.close()
    exit_code = _exit_code(api, created["Id"]) if end is None else None
    if end is None:
        end = End.EXITED if exit_code is not None else End.UNKNOWN
    return ExecResult(
        stdout=bytes(stream.kept["stdout"]),
        stderr=bytes(stream.kept["stderr"]),
        end=end,
        exit_code=exit_code,
        duration_s=time.monotonic() - began,
        stdout_truncated="stdout" in stream.overflowed,
        stderr_truncated="stderr" in stream.overflowed,
    )


def _exit_code(api: Any, exec_id: str) -> int | None:
    """Of a command that no longer runs; None while it does."""
    for _ in range(20):
        row = api.exec_inspect(exec_id)
        if row["Running"]:
            return None
        if isinstance(row["ExitCode"], int):
            return int(row["ExitCode"])
        time.sleep(0.01)
    return None


class _Stream:
    """The hijacked connection of one command."""

    def __init__(self, response: Any, stdin: bytes | None, cap: int) -> None:
        self._response, self._cap = response, cap
        self._socket: socket.socket = getattr(response, "_sock", response)
        self._socket.setblocking(False)
        self._stdin = memoryview(stdin or b"")
        self._writing = stdin is not None
        self._raw = bytearray()
        self._left, self._name = 0, ""
        self.kept = {"stdout": bytearray(), "stderr": bytearray()}
        self.overflowed: set[str] = set()

    def run(self, deadline: float, exited: Any) -> End | None:
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
                        return None
                if self.overflowed:
                    return End.OUTPUT_LIMIT
        return End.TIMEOUT

    def _feed(self) -> bool:
        """Send some of the input; False when all is sent or nobody reads."""
        try:
            self._stdin = (
                self._stdin[self._socket.send(self._stdin[:_CHUNK]) :]
                if self._stdin
                else self._stdin
            )
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
        self._raw += chunk
        while self._raw:
            if not self._left:
                if len(self._raw) < 8:
                    break
                kind, self._left = struct.unpack(">BxxxL", self._raw[:8])
                self._name = _STREAMS.get(kind, "stderr")
                del self._raw[:8]
            part = bytes(self._raw[: self._left])
            del self._raw[: len(part)]
            self._left -= len(part)
            self._keep(part)
        return bool(chunk)

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
