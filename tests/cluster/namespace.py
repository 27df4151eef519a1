"""New namespaces made of `deploy/kubernetes` and `deploy/training`, for the tests and for measurements; gone again afterwards.

The cluster is the one of KUBECONFIG; whoever uses a namespace has the rights of that folder's role and no more.
"""

import json
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sandbox.kubernetes.api import Api
from sandbox.kubernetes.options import KubernetesOptions

DEPLOY = Path(__file__).parents[2] / "deploy"
COLLECTIONS = {
    "Namespace": "/api/v1/namespaces",
    "ResourceQuota": "/api/v1/namespaces/{namespace}/resourcequotas",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
}

OF_THE_TEST_NODE = {"seccomp_profile": "deepswe.json", "cores": os.cpu_count() or 1}
"""The filter that this node was given, which another cluster's nodes may not have; and it is this machine."""


class TrainingNamespace(NamedTuple):
    name: str
    kubeconfig: Path
    """Of the account that launches runs."""


@contextmanager
def sandbox_namespace() -> Iterator[dict[str, Any]]:
    """What a backend needs to use the new namespace."""
    namespace = f"deepswe-test-{uuid.uuid4().hex[:8]}"
    api = Api(KubernetesOptions(namespace=namespace))
    for name in ("namespace", "resource-quota", "network-policy", "rbac"):
        _make(api, DEPLOY / "kubernetes" / f"{name}.yaml", {"deepswe-sandboxes": namespace})
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        kubeconfig.write_text(json.dumps(_account(api, "sandbox-maker")))
        yield {
            "kubeconfig": str(kubeconfig),
            "namespace": namespace,
            "image_pull_policy": "Never",
            # As many sandboxes as a test wants, each with a processor of its own, do not fit on a small node.
            "cpu_request": 0.02,
            **(OF_THE_TEST_NODE if "STUDIO_TEST_NODE" in os.environ else {}),
        }
    api.call("DELETE", f"/api/v1/namespaces/{namespace}")


@contextmanager
def training_namespace(sandboxes: str) -> Iterator[TrainingNamespace]:
    """One whose pods see each other, on the test node by its name (`isolate.py`), and may make sandboxes in another."""
    namespace = f"open-training-{uuid.uuid4().hex[:8]}"
    api = Api(KubernetesOptions(namespace=namespace))
    renamed = {"deepswe-training": namespace, "deepswe-sandboxes": sandboxes}
    for name in ("namespace", "rbac"):
        _make(api, DEPLOY / "training" / f"{name}.yaml", renamed)
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        kubeconfig.write_text(json.dumps(_account(api, "launcher")))
        yield TrainingNamespace(namespace, kubeconfig)
    api.call("DELETE", f"/api/v1/namespaces/{namespace}")


def _make(api: Api, manifest: Path, renamed: Mapping[str, str]) -> None:
    """What a manifest says, in namespaces of other names."""
    text = manifest.read_text()
    for name, other in renamed.items():
        text = text.replace(name, other)
    for thing in yaml.safe_load_all(text):
        namespace = thing["metadata"].get("namespace", "")
        api.call("POST", COLLECTIONS[thing["kind"]].format(namespace=namespace), body=thing)


def _account(api: Api, name: str) -> dict[str, object]:
    """A kubeconfig of one of the service accounts that a folder's `rbac.yaml` makes."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"{api.path('serviceaccounts', name)}/token"
    token = api.call("POST", path, body=request)["status"]["token"]
    cluster = {"server": api.configuration.host}
    if api.configuration.ssl_ca_cert:
        cluster["certificate-authority"] = api.configuration.ssl_ca_cert
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
