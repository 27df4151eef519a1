"""A Kubernetes backend with the rights of `deploy/kubernetes`, and a hand on the node where the tests made one.

`node` is left out on a cluster that `make cluster-test` did not start: a user's node is not killed.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.base import Sandbox, SandboxLabels, SandboxSpec
from sandbox.kubernetes.api import Api
from sandbox.kubernetes.backend import KubernetesBackend
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.rootfs import COMPOSED_IMAGE
from tests.cluster.live import Node, Pods, wait_until


@pytest.fixture(scope="module")
def backend(kubernetes_options: dict[str, Any]) -> Iterator[KubernetesBackend]:
    made = KubernetesBackend(**kubernetes_options)
    yield made
    made.close()


@pytest.fixture
def spec() -> SandboxSpec:
    labels = SandboxLabels(run="faults", rollout="r", owner="test:1", expires=time.time() + 600)
    return SandboxSpec(
        docker_image=COMPOSED_IMAGE,
        labels=labels,
        files={"calc.py": b"def add(a, b):\n    return a - b\n"},
        memory_mib=96,
        pids=48,
        disk_mib=32,
    )


@pytest.fixture
def sandbox(backend: KubernetesBackend, spec: SandboxSpec, pods: Pods) -> Iterator[Sandbox]:
    made = backend.create(spec)
    yield made
    made.close()
    pods.wait_until_gone()


@pytest.fixture(scope="module", autouse=True)
def nothing_left(pods: Pods, started_node: Node | None) -> Iterator[None]:
    """After a file's tests no pod is left, and on our own node no container, control group, mount or process of one."""
    yield
    wait_until(lambda: not _left(pods, started_node), "something of a pod is left", 120)


def _left(pods: Pods, node: Node | None) -> list[str]:
    return [*pods.names(), *(node.traces() if node else ())]


@pytest.fixture(scope="session")
def pods(kubernetes_options: dict[str, Any]) -> Pods:
    return Pods(Api(KubernetesOptions(namespace=str(kubernetes_options["namespace"]))))


@pytest.fixture(scope="session")
def started_node() -> Node | None:
    folder = os.environ.get("STUDIO_TEST_NODE")
    return Node(Path(folder)) if folder else None


@pytest.fixture(scope="session")
def node(started_node: Node | None) -> Node:
    if started_node is None:
        pytest.skip("needs the node that make cluster-test starts")
    return started_node
