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
from sandbox.kubernetes import KubernetesBackend
from sandbox.kubernetes_api import Api
from sandbox.kubernetes_options import KubernetesOptions
from sandbox.rootfs import COMPOSED_IMAGE
from tests.cluster.live import Node, Pods


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
    pods.wait_until_gone(made.id)


@pytest.fixture(scope="session")
def pods(kubernetes_options: dict[str, Any]) -> Pods:
    return Pods(Api(KubernetesOptions(namespace=str(kubernetes_options["namespace"]))))


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    folder = os.environ.get("STUDIO_TEST_NODE")
    if not folder:
        pytest.skip("needs the node that make cluster-test starts")
    made = Node(Path(folder))
    yield made
    made.engine.close()
