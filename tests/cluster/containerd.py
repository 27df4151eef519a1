"""The container runtime of the test node, by its own client `ctr`: the images that the kubelet finds, and pods' containers."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, NamedTuple

NAMESPACE = "k8s.io"
"""Of containerd, in which its CRI keeps what is Kubernetes'."""


class Containerd:
    """The one below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._argv = ["ctr", f"--address={folder}/containerd.sock", f"--namespace={NAMESPACE}"]

    def ctr(self, *words: str, timeout_s: float | None = None) -> list[list[str]]:
        """What it prints, as rows of words. Raises CalledProcessError, TimeoutExpired."""
        done = subprocess.run(
            [*self._argv, *words], capture_output=True, check=True, text=True, timeout=timeout_s
        )
        return [line.split() for line in done.stdout.splitlines()]

    def load(self, archive: BinaryIO) -> None:
        """Take in the images of an archive, unpacked."""
        with NamedTemporaryFile() as file:
            shutil.copyfileobj(archive, file)
            file.flush()
            self.ctr("images", "import", file.name)

    def save(self, name: str, archive: BinaryIO) -> None:
        """Write the image that the kubelet knows as `name`."""
        with NamedTemporaryFile() as file:
            self.ctr("images", "export", file.name, f"docker.io/{name}")
            shutil.copyfileobj(file, archive)

    def containers(self, **labels: str) -> list[str]:
        """The ids of those with all these labels of the kubelet's, a pod's own among them, whether they run or not."""
        filters = [f'labels."io.kubernetes.{name}"=={value}' for name, value in labels.items()]
        words = [",".join(filters)] if filters else []
        return [container for (container,) in self.ctr("containers", "list", "--quiet", *words)]

    def container(self, pod: str, name: str) -> "Container":
        """The running one of that name in a pod."""
        labels = {"pod.name": pod, "container.name": name}
        (found,) = self.containers(**labels)
        pids = {row[0]: int(row[1]) for row in self.ctr("tasks", "list")[1:]}
        return Container(self, found, pids[found])


class Container(NamedTuple):
    runtime: Containerd
    id: str
    pid: int
    """Of its first process, on this machine."""

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def pids(self) -> list[int]:
        """Of all its processes."""
        return [int(row[0]) for row in self.runtime.ctr("tasks", "ps", self.id)[1:]]
