"""A new namespace made of `deploy/kubernetes`, for the tests and for measurements; gone again afterwards.

The cluster is the one of KUBECONFIG; whoever uses the namespace has the rights of that folder's role and no more.
"""

import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from sandbox.kubernetes_api import Api
from sandbox.kubernetes_options import KubernetesOptions

DEPLOY = Path(__file__).parents[2] / "deploy" / "kubernetes"
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


@contextmanager
def sandbox_namespace() -> Iterator[dict[str, Any]]:
    """What a backend needs to use the new namespace."""
    namespace = f"deepswe-test-{uuid.uuid4().hex[:8]}"
    api = Api(KubernetesOptions(namespace=namespace))
    for path in ("namespace", "resource-quota", "network-policy", "rbac"):
        text = (DEPLOY / f"{path}.yaml").read_text().replace("deepswe-sandboxes", namespace)
        for thing in yaml.safe_load_all(text):
            api.call("POST", COLLECTIONS[thing["kind"]].format(namespace=namespace), body=thing)
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        kubeconfig.write_text(json.dumps(_account(api)))
        yield {
            "kubeconfig": str(kubeconfig),
            "namespace": namespace,
            "image_pull_policy": "Never",
            # As many sandboxes as a test wants, each with a processor of its own, do not fit on a small node.
            "cpu_request": 0.02,
            **(OF_THE_TEST_NODE if "STUDIO_TEST_NODE" in os.environ else {}),
        }
    api.call("DELETE", f"/api/v1/namespaces/{namespace}")


def _account(api: Api) -> dict[str, object]:
    """A kubeconfig of the service account that `deploy/kubernetes/rbac.yaml` makes."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"{api.path('serviceaccounts', 'sandbox-maker')}/token"
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
