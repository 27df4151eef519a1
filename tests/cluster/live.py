"""Hands on a live cluster for the tests: what pods there are, and the node that `make cluster-test` started."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import docker

from sandbox.kubernetes_api import Api


class Pods:
    """What the cluster holds in the namespace of the tests."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def names(self) -> set[str]:
        found = self.api.call("GET", self.api.path("pods"))["items"]
        return {pod["metadata"]["name"] for pod in found}

    def annotations(self) -> Iterator[tuple[str, dict[str, str]]]:
        for pod in self.api.call("GET", self.api.path("pods"))["items"]:
            yield pod["metadata"]["name"], pod["metadata"]["annotations"]

    def delete(self, name: str) -> None:
        self.api.call("DELETE", self.api.path("pods", name))

    def wait_until_gone(self, name: str, timeout_s: float = 120) -> None:
        wait_until(lambda: name not in self.names(), f"pod {name} is still there", timeout_s)


class Request(NamedTuple):
    """One that the API server has received."""

    verb: str
    resource: str
    at: float
    """Unix seconds."""


class Node:
    """The node that `make cluster-test` started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = docker.DockerClient(base_url=f"unix://{folder}/docker.sock")

    def container(self, pod: str) -> Any:
        labels = [f"io.kubernetes.pod.name={pod}", "io.kubernetes.container.name=sandbox"]
        return self.engine.containers.list(filters={"label": labels})[0]

    def requests(self, namespace: str) -> Iterator[Request]:
        """What the API server has been asked by service accounts of this namespace, by its own audit log."""
        user = f"system:serviceaccount:{namespace}:"
        for line in (self.folder / "audit.log").read_text().splitlines():
            entry = json.loads(line)
            if entry["user"]["username"].startswith(user):
                at = datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp()
                yield Request(entry["verb"], entry["objectRef"]["resource"], at)

    def kill_apiserver(self) -> None:
        """It is started again at once, as a static pod would be."""
        os.kill(int((self.folder / "apiserver.process").read_text()), signal.SIGKILL)


def wait_until(done: Callable[[], bool], claim: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"after {timeout_s:g} s: {claim}"
        time.sleep(0.2)
