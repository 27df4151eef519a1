"""What a pod reaches, and that a backend refuses a cluster on which it reaches anything."""

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.base import Sandbox, SandboxSpec
from sandbox.errors import SandboxUnavailable
from sandbox.kubernetes.api import Api
from sandbox.kubernetes.backend import KubernetesBackend
from sandbox.kubernetes.options import KubernetesOptions
from tests.cluster.live import Node

pytestmark = pytest.mark.k8s


@pytest.fixture
def open_namespace(node: Node) -> Iterator[str]:
    """A namespace whose pods this node's network plugin lets see each other."""
    name = f"open-{uuid.uuid4().hex[:8]}"
    api = Api(KubernetesOptions(namespace=name))
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    api.call("POST", "/api/v1/namespaces", body=body)
    yield name
    api.call("DELETE", f"/api/v1/namespaces/{name}")


def test_a_cluster_whose_pods_reach_each_other_is_refused_unless_allowed(
    kubernetes_options: dict[str, Any], open_namespace: str, spec: SandboxSpec
) -> None:
    options = {**kubernetes_options, "namespace": open_namespace}
    options["kubeconfig"] = os.environ["KUBECONFIG"]
    backend = KubernetesBackend(**options)
    with pytest.raises(SandboxUnavailable, match=r"a pod reached .*:18080.*allow_egress"):
        backend.create(spec)
    backend.close()
    allowed = KubernetesBackend(**options, allow_egress=True)
    allowed.create(spec).close()
    allowed.close()


def test_a_cluster_without_a_process_limit_is_refused(
    kubernetes_options: dict[str, Any], spec: SandboxSpec
) -> None:
    # The node's own limit is above 16, so that to this backend there is none.
    backend = KubernetesBackend(**kubernetes_options, max_processes=16)
    with pytest.raises(SandboxUnavailable, match="podPidsLimit"):
        backend.create(spec)
    backend.close()


def test_a_pod_has_no_token_and_does_not_know_the_services(sandbox: Sandbox) -> None:
    result = sandbox.exec(["sh", "-c", "ls /var/run/secrets /run/secrets; env"], timeout_s=20)
    assert b"kubernetes" not in (result.stdout + result.stderr).lower().replace(b"ls: ", b""), (
        result
    )
