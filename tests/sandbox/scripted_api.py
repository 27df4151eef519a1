"""A stand-in for an API server that answers what a script says: busy, forgetful, or slow to do what it was asked.

It is no cluster and knows no objects; what a real one does is tested in tests/cluster.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sandbox.kubernetes.api import Api
from sandbox.kubernetes.options import KubernetesOptions

Answer = tuple[int, list[dict[str, Any]]]


class Script:
    """Stands in for an API server: one answer a request, in order; the last is repeated. A status of 0 hangs up."""

    def __init__(self, tmp_path: Path) -> None:
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        """Of creations alone."""
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                script.answer(self)

            do_POST = do_DELETE = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.kubeconfig = path = tmp_path / "kubeconfig"
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        config = {
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path.write_text(json.dumps(config))
        self.api = Api(KubernetesOptions(kubeconfig=str(path)))

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        self.paths.append(urlsplit(handler.path).path)
        if handler.command == "POST":
            self.bodies.append(json.loads(body))
        query = {k: v[0] for k, v in parse_qs(urlsplit(handler.path).query).items()}
        self.requests.append((handler.command, query))
        status, things = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not status:
            handler.close_connection = True
            return
        answer = b"\n".join(json.dumps(thing).encode() for thing in things) + b"\n"
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def refusal(code: int, message: str = "later") -> Answer:
    return code, [{"kind": "Status", "code": code, "message": message}]
