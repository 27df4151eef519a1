"""A stand-in for a Kubernetes cluster: pods are processes of this machine, and a pod's name stands for 127.0.0.1.

It serves the calls that `trainer.kubernetes_launch` makes. What becomes of a pod is what became of its process; one that is
deleted gets SIGTERM and, when its grace is over, SIGKILL, and is listed until it has ended.
"""

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]


@dataclass
class Pod:
    body: Json
    process: subprocess.Popen[bytes] | None
    """None: no node takes it."""
    on_lost_node: bool = False
    """Nobody confirms its end: it is listed until it is deleted without a grace."""

    def kill(self) -> None:
        """As the kernel does for want of memory, or a node by losing power."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def delete(self) -> None:
        grace = self.body["spec"].get("terminationGracePeriodSeconds", 30)
        if self.process:
            with suppress(ProcessLookupError):
                self.process.terminate()
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                self.kill()

    def status(self) -> Json:
        if self.process is None:
            unschedulable = {"type": "PodScheduled", "status": "False", "message": "no node fits"}
            return {"phase": "Pending", "conditions": [unschedulable]}
        code = self.process.poll()
        if code is None:
            return {"phase": "Running"}
        terminated = {"exitCode": code if code >= 0 else 128 - code, "message": ""}
        containers = [{"name": "trainer", "state": {"terminated": terminated}}]
        return {"phase": "Failed" if code else "Succeeded", "containerStatuses": containers}


@dataclass
class StandInCluster:
    """`nodes` pods find a place at most; their output goes to `log`."""

    log: Path
    nodes: int = 9
    pods: dict[str, Pod] = field(default_factory=dict)
    services: dict[str, Json] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    """Names of all pods that ever were."""
    port: int = 0
    refusals: list[int] = field(default_factory=list)
    """Statuses of the next answers to what asks or removes."""
    creation_refusals: list[int] = field(default_factory=list)
    """Statuses of the next answers to what makes."""

    def create_pod(self, body: Json) -> None:
        name = body["metadata"]["name"]
        (container,) = body["spec"]["containers"]
        if not self.pods:
            self.port = free_port()
        process = None
        if len(self.pods) < self.nodes:
            words = [*container["command"], *container["args"]]
            with self.log.open("ab") as output:
                process = subprocess.Popen(
                    [self._resolve(word, body) for word in words],
                    env=os.environ | {e["name"]: e["value"] for e in container["env"]},
                    cwd=container["workingDir"],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        self.pods[name] = Pod(body, process)
        self.made.append(name)

    def _resolve(self, word: str, body: Json) -> str:
        """The cluster's name service, and ports of a pod's own."""
        service = body["spec"]["subdomain"]
        name = f"node-0.{service}:{self.services[service]['spec']['ports'][0]['port']}"
        return f"127.0.0.1:{self.port}" if word == name else word

    def selected(self, query: str) -> list[Pod]:
        label, value = parse_qs(query)["labelSelector"][0].split("=")
        return [p for p in self.pods.values() if p.body["metadata"]["labels"][label] == value]

    def delete_pods(self, query: str) -> None:
        forced = "gracePeriodSeconds=0" in query

        def end(pod: Pod) -> None:
            pod.delete()
            if forced or not pod.on_lost_node:
                self.pods.pop(pod.body["metadata"]["name"], None)

        for pod in self.selected(query):
            threading.Thread(target=end, args=[pod]).start()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(cluster: StandInCluster, kubeconfig: Path) -> Iterator[None]:
    """Serve until the end, and write the `kubeconfig` that leads there; no process of a pod is left."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = body["metadata"]["name"]
            if self.refused(cluster.creation_refusals):
                return
            if name in (cluster.pods if self.path.endswith("/pods") else cluster.services):
                self.answer(409, {"message": f'"{name}" already exists'})
                return
            if self.path.endswith("/pods"):
                cluster.create_pod(body)
            else:
                cluster.services[name] = body
            self.answer(201, body)

        def do_GET(self) -> None:
            if self.refused(cluster.refusals):
                return
            pods = cluster.selected(urlsplit(self.path).query)
            self.answer(200, {"items": [pod.body | {"status": pod.status()} for pod in pods]})

        def do_DELETE(self) -> None:
            if self.refused(cluster.refusals):
                return
            path = urlsplit(self.path)
            if path.path.endswith("/pods"):
                cluster.delete_pods(path.query)
                self.answer(200, {})
            else:
                found = cluster.services.pop(path.path.rpartition("/")[2], None)
                self.answer(200 if found else 404, {"message": "not found"})

        def refused(self, statuses: list[int]) -> bool:
            if statuses:
                self.answer(statuses.pop(0), {"message": "away"})
                return True
            return False

        def answer(self, status: int, body: Json) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    kubeconfig.write_text(json.dumps(config))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        for pod in cluster.pods.values():
            pod.kill()
