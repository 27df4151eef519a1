"""Hands on a live cluster for the tests: what pods there are, and the node that `make cluster-test` started."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sandbox.kubernetes.api import Api
from sandbox.kubernetes.pod import PREFIX
from tests.cluster.containerd import Container, Containerd
from tests.docker_engine import shims_of


class Pods:
    """What the cluster holds in the namespace of the tests."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def names(self, *, ending: bool = True) -> set[str]:
        """Of all pods, or of those alone that nobody has asked the cluster to remove."""
        found = [pod["metadata"] for pod in self.api.call("GET", self.api.path("pods"))["items"]]
        return {pod["name"] for pod in found if ending or "deletionTimestamp" not in pod}

    def annotations(self) -> Iterator[tuple[str, dict[str, str]]]:
        for pod in self.api.call("GET", self.api.path("pods"))["items"]:
            yield pod["metadata"]["name"], pod["metadata"]["annotations"]

    def owners(self) -> set[str]:
        """The objects that own the pods of a run, there for as long as its process lives."""
        query = {"labelSelector": f"{PREFIX}/owner-of-pods"}
        found = self.api.call("GET", self.api.path("configmaps"), query=query)["items"]
        return {owner["metadata"]["name"] for owner in found}

    def delete(self, name: str) -> None:
        self.api.call("DELETE", self.api.path("pods", name))

    def wait_until_gone(self, *, kept: str = "") -> None:
        """Until nothing of any pod but `kept` lives on. The object of a dead pod stays for up to a minute more: so often does
        a kubelet look after the remains of containers.
        """
        wait_until(lambda: self.names(ending=False) <= {kept}, "a pod is still there", 30)


class Request(NamedTuple):
    """One that the API server has received."""

    verb: str
    resource: str
    """Empty for what is no object, such as the server's version."""
    at: float
    """Unix seconds."""


class Node:
    """The node that `make cluster-test` started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = Containerd(folder)

    def container(self, pod: str, name: str = "sandbox") -> Container:
        return self.runtime.container(pod, name)

    def requests(self, namespace: str) -> Iterator[Request]:
        """What the API server has been asked by service accounts of this namespace, by its own audit log."""
        user = f"system:serviceaccount:{namespace}:"
        whole, _, _ = (self.folder / "audit.log").read_text().rpartition("\n")
        for line in whole.splitlines():
            entry = json.loads(line)
            if entry["user"]["username"].startswith(user):
                at = datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp()
                yield Request(entry["verb"], entry.get("objectRef", {}).get("resource", ""), at)

    def kill_apiserver(self) -> None:
        """It is started again at once, as a static pod would be."""
        self._signal_apiserver(signal.SIGKILL)

    def freeze_apiserver(self) -> None:
        """It takes connections and says nothing."""
        self._signal_apiserver(signal.SIGSTOP)

    def thaw_apiserver(self) -> None:
        """Nothing happens to one that is not stopped."""
        self._signal_apiserver(signal.SIGCONT)

    def _signal_apiserver(self, number: signal.Signals) -> None:
        os.kill(int((self.folder / "apiserver.process").read_text()), number)

    def traces(self) -> list[str]:
        """What there is of any pod: containers, control groups, mounts, and processes that hold a container."""
        return [
            *self.runtime.containers(),
            *self._groups(),
            *self._mounts(),
            *shims_of(self.folder),
        ]

    def _groups(self) -> list[str]:
        """Of pods, in the version of control groups that the node has (`run.py`)."""
        top, name = Path("/sys/fs/cgroup"), (self.folder / "cgroup").read_text()
        found = (group for place in ("", "*/") for group in top.glob(f"{place}{name}/**/pod*/"))
        return [str(group) for group in found if group.parts[4] != "unified"]

    def _mounts(self) -> list[str]:
        rows = (row.split()[1] for row in Path("/proc/self/mounts").read_text().splitlines())
        idle = f"{self.folder}/kubelet"
        return [row for row in rows if row.startswith(f"{self.folder}/") and row != idle]


def wait_until(done: Callable[[], bool], claim: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, f"after {timeout_s:g} s: {claim}"
        time.sleep(0.2)
