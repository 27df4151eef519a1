"""Create a pod and wait for it: the cluster's many ways to say "not yet" and "never" become one exception."""

from sandbox.errors import SandboxUnavailable
from sandbox.kubernetes.api import Api, Json
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.kubernetes.watch import PodWatch


def start_pod(api: Api, watch: PodWatch, body: Json, options: KubernetesOptions) -> None:
    """Create a pod and wait until it runs. Raises SandboxUnavailable, ApiError. A pod that does not run stays."""
    name, image = body["metadata"]["name"], body["spec"]["containers"][0]["image"]
    watch.expect(name)
    api.call("POST", api.path("pods"), body=body)
    status = watch.wait_for(
        name, lambda s: bool(s.running or s.dead or s.image_problem), options.start_timeout_s
    )
    if status is not None and status.running:
        return
    if status is not None and status.image_problem:
        raise SandboxUnavailable(
            f"docker_image {image!r}: not on this cluster's nodes: {status.image_problem}: "
            "push it to a registry that they reach, or python -m sandbox.prepull"
        )
    if status is not None and status.dead:
        raise SandboxUnavailable(f"docker_image {image!r}: the pod never ran: {status.dead}")
    waits = (status.waiting if status else "") or "no word from the cluster"
    raise SandboxUnavailable(
        f"docker_image {image!r}: not running after start_timeout_s={options.start_timeout_s:g}: {waits}"
    )
