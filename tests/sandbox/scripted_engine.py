"""A stand-in for a Docker engine that gives answers which a real one gives only of another version, or in trouble.

It knows no containers; what a real one does is tested where the tests are marked docker.
"""

import json
import threading
from collections.abc import Collection, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Answer = tuple[int, list[Any]]
"""A status and what is sent as JSON, one a line. A status of 0 hangs up."""
VERSION = {"ApiVersion": "1.52", "MinAPIVersion": "1.24", "Version": "29.0.0"}


class ScriptedEngine:
    """Answers by a request's method and the end of its path; hangs up on what it does not know, and never ends its answer to
    what is `endless`.
    """

    def __init__(
        self,
        answers: Mapping[tuple[str, str], Answer],
        endless: Collection[tuple[str, str]] = (),
    ) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.closed = threading.Event()
        engine = self
        known: dict[tuple[str, str], Answer] = {("GET", "/version"): (200, [VERSION]), **answers}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.close_connection = True
                path = urlsplit(self.path).path
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                engine.requests.append((self.command, path, body))
                for (method, end), (status, things) in known.items():
                    if status and method == self.command and path.endswith(end):
                        self.answer(status, things, (method, end) in endless)

            do_POST = do_DELETE = do_GET

            def answer(self, status: int, things: list[Any], endless: bool) -> None:
                self.send_response(status)
                self.send_header("Transfer-Encoding", "chunked")
                self.send_header("Connection", "close")
                self.end_headers()
                lines = (json.dumps(thing).encode() + b"\n" for thing in things)
                for chunk in lines:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                if endless:
                    engine.closed.wait(60)
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"tcp://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.closed.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
