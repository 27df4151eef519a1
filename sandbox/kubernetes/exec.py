"""One command in a pod over the exec websocket, read by our own loop: a deadline, an output cap, flat memory.

The official client's own exec drains without a bound, ignores its timeout and changes the client it is made with.
Here every frame is counted as it comes. Channels: 0 stdin, 1 stdout, 2 stderr, 3 the status, 255 closes one (v5 only).
What a missing end means is not decided here.
"""

import json
import secrets
import selectors
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import websocket

from sandbox.errors import End
from sandbox.kubernetes.api import Api
from sandbox.kubernetes.status import CONTAINER
from sandbox.kubernetes.supervisor import TOKEN_BYTES, TRAILER_BYTES, Trailer, read_trailer

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSE = 0, 1, 2, 3, 255
_CHUNK = 1 << 15
"""Bytes of input a frame; some API servers refuse frames above 1 MiB."""
_SEND_BUFFER = 1 << 18
"""A writable socket then takes a whole chunk, so that sending never waits while the pod waits for us to read."""
MAX_FRAME_BYTES = 1 << 20
_MAX_STATUS_BYTES = 1 << 16


class ExecRefused(Exception):
    """The server did not open the connection: the command has not run. `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(kw_only=True)
class Finished:
    """What came of one command. `trailer` is set if and only if both streams came whole."""

    streams: dict[str, bytearray] = field(
        default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()}
    )
    overflowed: set[str] = field(default_factory=set)
    trailer: Trailer | None = None
    end: End | None = None
    """TIMEOUT or OUTPUT_LIMIT when we gave it up."""
    error: str = ""
    """What the server or the network said, when the streams did not come whole."""
    duration_s: float = 0.0


def run_exec(
    api: Api,
    pod: str,
    argv: Sequence[str],
    *,
    stdin: bytes | None,
    deadline: float,
    handshake_timeout_s: float,
    max_output_bytes: int,
) -> Finished:
    """Run a supervised command until it ends, `deadline` (of time.monotonic) or the cap.

    It is not killed at the deadline or the cap. Raises ExecRefused when it was certainly not started.
    """
    began = time.monotonic()
    finished = Finished()
    token = secrets.token_hex(TOKEN_BYTES)
    try:
        connection = connect(api, pod, argv, min(handshake_timeout_s, deadline - began))
    except (OSError, websocket.WebSocketException) as error:
        finished.error = f"no connection: {error}"
        return finished
    try:
        session = _Session(connection, finished, token, stdin, max_output_bytes)
        session.run(deadline)
    except (OSError, websocket.WebSocketException) as error:
        finished.error = f"connection lost: {error}"
    finally:
        connection.shutdown()
    finished.duration_s = time.monotonic() - began
    return finished


def connect(api: Api, pod: str, argv: Sequence[str], timeout_s: float) -> Any:
    """An open exec websocket, by the newest protocol both sides speak.

    Raises ExecRefused, OSError, WebSocketException.
    """
    query = [("container", CONTAINER), ("stdin", "true"), ("stdout", "true"), ("stderr", "true")]
    query += [("command", word) for word in argv]
    server = urlsplit(api.configuration.host)
    scheme = "wss" if server.scheme == "https" else "ws"
    url = f"{scheme}://{server.netloc}{server.path}{api.path('pods', pod)}/exec?{urlencode(query)}"
    try:
        return _open(api, url, PROTOCOLS, timeout_s)
    except ExecRefused as error:
        # Servers before 1.29 may refuse a list that names v5 first.
        if error.status not in (400, 403):
            raise
        return _open(api, url, PROTOCOLS[1:], timeout_s)


def _open(api: Api, url: str, protocols: Sequence[str], timeout_s: float) -> Any:
    headers = {k: v for k, v in api.headers().items() if k.lower() == "authorization"}
    try:
        return websocket.create_connection(
            url,
            timeout=max(0.1, timeout_s),
            header=headers,
            subprotocols=list(protocols),
            sslopt=_tls(api.configuration),
            sockopt=[
                (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
                (socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER),
            ],
            suppress_origin=True,
            redirect_limit=0,
            skip_utf8_validation=True,
            **_proxy(api.configuration),
        )
    except websocket.WebSocketBadStatusException as error:
        body = (error.resp_body or b"")[:300].decode(errors="replace")
        raise ExecRefused(error.status_code, body) from error


def _tls(configuration: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "cert_reqs": ssl.CERT_REQUIRED if configuration.verify_ssl else ssl.CERT_NONE,
        "check_hostname": bool(configuration.verify_ssl),
        "ca_certs": configuration.ssl_ca_cert,
        "certfile": configuration.cert_file,
        "keyfile": configuration.key_file,
        "server_hostname": configuration.tls_server_name,
    }
    return {name: value for name, value in options.items() if value is not None}


def _proxy(configuration: Any) -> Mapping[str, Any]:
    if not configuration.proxy:
        return {"http_no_proxy": ["*"]}
    proxy = urlsplit(configuration.proxy)
    return {
        "http_proxy_host": proxy.hostname,
        "http_proxy_port": proxy.port,
        "proxy_type": proxy.scheme,
    }


class _Session:
    """The read loop of one command."""

    def __init__(
        self, connection: Any, finished: Finished, token: str, stdin: bytes | None, cap: int
    ) -> None:
        self._connection, self._finished, self._token, self._cap = connection, finished, token, cap
        self._left = memoryview(token.encode() + b"\n" + (stdin or b""))
        self._status = bytearray()

    def run(self, deadline: float) -> None:
        with selectors.DefaultSelector() as selector:
            wanted = selectors.EVENT_READ | selectors.EVENT_WRITE
            selector.register(self._connection.sock, wanted)
            while (left := deadline - time.monotonic()) > 0:
                self._connection.settimeout(left)
                for events in self._ready(selector, left):
                    if events & selectors.EVENT_READ:
                        if not self._take():
                            return
                    elif self._left and not self._feed():
                        selector.modify(self._connection.sock, selectors.EVENT_READ)
        self._finished.end = End.TIMEOUT

    def _ready(self, selector: selectors.BaseSelector, left: float) -> list[int]:
        """What can be done now; bytes already decrypted do not show on the socket."""
        pending = getattr(self._connection.sock, "pending", int)
        if pending():
            return [selectors.EVENT_READ]
        return [events for _, events in selector.select(left)]

    def _feed(self) -> bool:
        """Send some of the input; False when all is sent."""
        chunk, self._left = self._left[:_CHUNK], self._left[_CHUNK:]
        self._connection.send_binary(bytes([_STDIN]) + chunk)
        if not self._left and self._connection.getsubprotocol() == PROTOCOLS[0]:
            self._connection.send_binary(bytes([_CLOSE, _STDIN]))
        return bool(self._left)

    def _take(self) -> bool:
        """Read one frame; False when the command is over or given up."""
        try:
            frame = self._connection.recv_frame()
        except websocket.WebSocketTimeoutException:
            self._finished.end = End.TIMEOUT
            return False
        if frame.opcode == websocket.ABNF.OPCODE_CLOSE:
            self._finished.error = self._finished.error or "closed without a status"
            return False
        if frame.opcode == websocket.ABNF.OPCODE_PING:
            self._connection.pong(frame.data)
        if not frame.data or frame.opcode not in (0, 1, 2):
            return True
        return self._sort(frame.data[0], memoryview(frame.data)[1:])

    def _sort(self, channel: int, data: memoryview) -> bool:
        if channel in (_STDOUT, _STDERR):
            return self._keep("stdout" if channel == _STDOUT else "stderr", data)
        if channel == _STATUS and len(self._status) < _MAX_STATUS_BYTES:
            self._status += data
            self._finished.error = _message(bytes(self._status))
        return True

    def _keep(self, name: str, data: memoryview) -> bool:
        """False once both streams are whole, or one is over the cap."""
        kept = self._finished.streams[name]
        room = self._cap + TRAILER_BYTES - len(kept)
        kept += data[:room]
        if len(data) > room:
            self._finished.end = End.OUTPUT_LIMIT
            self._finished.overflowed.add(name)
            del kept[self._cap :]
            return False
        return not self._whole()

    def _whole(self) -> bool:
        streams = self._finished.streams
        trailers = [read_trailer(stream, self._token) for stream in streams.values()]
        if None in trailers or trailers[0] is None:
            return False
        self._finished.trailer = trailers[0]
        for stream in streams.values():
            del stream[-TRAILER_BYTES:]
        return True


def _message(status: bytes) -> str:
    """What the status channel says of a failure; empty for a command that ended."""
    try:
        found = json.loads(status)
    except ValueError:
        return ""
    return "" if found.get("status") == "Success" else str(found.get("message", ""))
