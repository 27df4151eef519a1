"""Hands on a live cluster for the tests: what pods there are, and the node that `make cluster-test` started."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker

from sandbox.kubernetes_api import Api


class Pods:
    """What the cluster holds in the namespace of the tests."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def names(self) -> set[str]:
        found = self.api.call("GET", self.api.path("pods"))["items"]
        return {pod["metadata"]["name"] for pod in found}

    def delete(self, name: str) -> None:
        self.api.call("DELETE", self.api.path("pods", name))

    def wait_until_gone(self, name: str, timeout_s: float = 60) -> None:
        wait_until(lambda: name not in self.names(), f"pod {name} is still there", timeout_s)


class Node:
    """The node that `make cluster-test` started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = docker.DockerClient(base_url=f"unix://{folder}/docker.sock")

    def container(self, pod: str) -> Any:
        labels = [f"io.kubernetes.pod.name={pod}", "io.kubernetes.container.name=sandbox"]
        return self.engine.containers.list(filters={"label": labels})[0]

    def kill_apiserver(self) -> None:
        """It is started again at once, as a static pod would be."""
        os.kill(int((self.folder / "apiserver.process").read_text()), signal.SIGKILL)


def wait_until(done: Callable[[], bool], claim: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"after {timeout_s:g} s: {claim}"
        time.sleep(0.2)
