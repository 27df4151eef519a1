"""The exec websocket against a stand-in for an API server, for what a real one of this age cannot be made to do.

`StandIn` speaks version 5 of the protocol, refuses, hangs, floods or cuts. Everything that a real cluster can show is
tested on one, in tests/cluster.
"""

import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from sandbox.errors import End
from sandbox.kubernetes.api import Api
from sandbox.kubernetes.exec import MAX_FRAME_BYTES, PROTOCOLS, ExecRefused, Finished, run_exec
from sandbox.kubernetes.options import KubernetesOptions

V5, V4 = PROTOCOLS
Act = Callable[[ServerConnection, str, "list[bytes]"], None]


class StandIn:
    """Stands in for an API server that opens exec websockets: `act` plays the supervised command."""

    def __init__(self, act: Act, speaks: tuple[str, ...]) -> None:
        self.act, self.speaks = act, speaks
        self.chosen: list[str | None] = []
        self.largest_frame = 0

    def refuse(self, _: ServerConnection, request: Request) -> Response | None:
        offered = request.headers["Sec-WebSocket-Protocol"].split(",")
        if offered[0].strip() in self.speaks:
            return None
        return Response(403, "Forbidden", Headers([("Content-Length", "2")]), b"no")

    def handle(self, connection: ServerConnection) -> None:
        self.chosen.append(connection.subprotocol)
        received: list[bytes] = []
        token = ""
        for message in connection:
            assert isinstance(message, bytes)
            self.largest_frame = max(self.largest_frame, len(message))
            received.append(message)
            if not token:
                token = message[1:33].decode()
            if self.act.__name__ != "echo" or message[0] == 255:
                self.act(connection, token, received)
                return


@contextmanager
def running(
    act: Act, tmp_path: Path, *, speaks: tuple[str, ...] = (V5, V4)
) -> Iterator[tuple[Api, StandIn]]:
    stand_in = StandIn(act, speaks)
    protocols = [Subprotocol(name) for name in speaks]
    with serve(
        stand_in.handle,
        "127.0.0.1",
        0,
        subprotocols=protocols,
        process_request=stand_in.refuse,
        max_size=None,
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield api_at(tmp_path, server.socket.getsockname()[1]), stand_in
        finally:
            server.shutdown()
            thread.join()


def api_at(tmp_path: Path, port: int) -> Api:
    path = tmp_path / "kubeconfig"
    config = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(config))
    return Api(KubernetesOptions(kubeconfig=str(path)))


def trailers(connection: ServerConnection, token: str, code: int = 0) -> None:
    for channel in (1, 2):
        connection.send(bytes([channel]) + f"{token}:{code:03d}:{0:010d}".encode())


def run(
    api: Api, *, stdin: bytes | None = None, timeout_s: float = 10, cap: int = 1 << 20
) -> Finished:
    deadline = time.monotonic() + timeout_s
    return run_exec(
        api, "p", ["x"], stdin=stdin, deadline=deadline, handshake_timeout_s=1, max_output_bytes=cap
    )


def echo(connection: ServerConnection, token: str, received: list[bytes]) -> None:
    sent = b"".join(message[1:] for message in received if message[0] == 0)
    connection.send(b"\x01" + sent[33:])
    trailers(connection, token, code=7)


def flood(connection: ServerConnection, token: str, received: list[bytes]) -> None:
    frame = b"\x01" + b"y" * (MAX_FRAME_BYTES - 1)
    for _ in range(1024):
        connection.send(frame)


def cut(connection: ServerConnection, token: str, received: list[bytes]) -> None:
    connection.send(b"\x01early")
    connection.socket.close()


def half(connection: ServerConnection, token: str, received: list[bytes]) -> None:
    connection.send(b"\x01cut sh")
    connection.send(b"\x02" + f"{token}:000:0000000000".encode())
    connection.send(b"\x03" + json.dumps({"status": "Success"}).encode())


def forge(connection: ServerConnection, token: str, received: list[bytes]) -> None:
    for channel in (1, 2):
        connection.send(bytes([channel]) + b"0" * 32 + b":000:0000000000")


def test_version_5_is_preferred_and_closes_the_input(tmp_path: Path) -> None:
    data = bytes(range(256)) * 12_000
    with running(echo, tmp_path) as (api, stand_in):
        finished = run(api, stdin=data, cap=4_000_000)
    assert stand_in.chosen == [V5]
    assert finished.streams["stdout"] == data
    assert finished.trailer is not None
    assert finished.trailer.exit_code == 7
    assert stand_in.largest_frame <= MAX_FRAME_BYTES


def test_a_server_that_refuses_version_5_is_asked_for_version_4(tmp_path: Path) -> None:
    with running(forge, tmp_path, speaks=(V4,)) as (api, stand_in):
        run(api)
    assert stand_in.chosen == [V4]


def test_a_server_that_refuses_both_has_not_run_the_command(tmp_path: Path) -> None:
    with (
        running(forge, tmp_path, speaks=()) as (api, stand_in),
        pytest.raises(ExecRefused, match="403"),
    ):
        run(api)
    assert stand_in.chosen == []


def test_a_flood_of_the_largest_frames_is_stopped_in_flat_memory(tmp_path: Path) -> None:
    with running(flood, tmp_path) as (api, _):
        tracemalloc.start()
        finished = run(api, timeout_s=20, cap=10_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (finished.end, len(finished.streams["stdout"])) == (End.OUTPUT_LIMIT, 10_000)
    assert peak < 32 << 20


def test_a_connection_cut_without_a_status_has_no_end(tmp_path: Path) -> None:
    with running(cut, tmp_path) as (api, _):
        finished = run(api)
    assert (finished.trailer, finished.end) == (None, None)
    assert finished.error
    assert finished.streams["stdout"] == b"early"


def test_a_stream_cut_short_is_not_taken_for_whole_whatever_the_status_says(tmp_path: Path) -> None:
    with running(half, tmp_path) as (api, _):
        assert run(api).trailer is None


def test_a_trailer_without_the_word_of_this_command_is_output(tmp_path: Path) -> None:
    with running(forge, tmp_path) as (api, _):
        finished = run(api)
    assert finished.trailer is None
    assert finished.streams["stdout"].startswith(b"0000")


def test_a_handshake_that_hangs_ends_in_time(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        finished = run(api_at(tmp_path, silent.getsockname()[1]), timeout_s=30)
    assert finished.error.startswith("no connection")
    assert time.monotonic() - began < 5
