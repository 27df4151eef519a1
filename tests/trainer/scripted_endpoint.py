"""An OpenAI-compatible server whose model is a script: what it says depends on the task and the seed alone.

A real HTTP server on a port of its own. By default a rollout applies the task's gold patch or finishes with nothing done,
as `solves` decides; any script may be given instead. A faulty server is made by `faults`.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sandbox.task import Task

FINISH = "<function=finish>\n"
"""Without the stop string, which servers leave out."""
Script = Sequence[str]


def gold_script(task: Task) -> Script:
    """Applies the gold patch, then finishes."""
    apply = f"git apply --whitespace=nowarn - <<'PATCH_ENDS'\n{task.gold_patch}PATCH_ENDS"
    call = f"<function=execute_bash>\n<parameter=cmd>{apply}</parameter>\n"
    return [call, FINISH]


def share_solved(task: Task, seed: int) -> bool:
    """About half of the rollouts, more of some tasks than of others."""
    digest = hashlib.sha256(task.task_id.encode()).digest()
    return seed % 256 < digest[0]


class ScriptedEndpoint:
    """Use as a context manager; `url` is what a configuration names."""

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        solves: Callable[[Task, int], bool] = share_solved,
        script: Callable[[Task, int], Script] | None = None,
    ) -> None:
        self.tasks = sorted(tasks, key=lambda task: -len(task.problem_statement))
        self.script = script or (
            lambda task, seed: gold_script(task) if solves(task, seed) else [FINISH]
        )
        self.faults: list[tuple[int, str]] = []
        """(status, text) of the next answers, first to last."""
        self.answering = threading.Event()
        """Cleared: requests are taken and not answered."""
        self.answering.set()
        self.requests: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.answering.wait(60)
                status, text = endpoint.reply(
                    json.loads(body) | {"key": self.headers["Authorization"]}
                )
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *arguments: object) -> None:
                """A client that went away is what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def reply(self, request: dict[str, Any]) -> tuple[int, str]:
        with self._lock:
            self.requests.append(request)
            if self.faults:
                return self.faults.pop(0)
        messages = request["messages"]
        place, task = next(
            (i, task)
            for i, message in reversed(list(enumerate(messages)))
            if message["role"] == "user"
            for task in self.tasks
            if task.problem_statement.strip() in message["content"]
        )
        turn = sum(message["role"] == "assistant" for message in messages[place:])
        text = self.script(task, request["seed"] - turn)[turn]
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return 200, json.dumps({"choices": [choice]})

    def __enter__(self) -> "ScriptedEndpoint":
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answering.set()
        self._server.shutdown()
        self._server.server_close()
