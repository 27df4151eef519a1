"""Where the Kubernetes backend makes its pods, and what a cluster's administrator may ask of them.

Plain values only: nothing here talks to a cluster. What one sandbox may use is `SandboxSpec`, not this.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class KubernetesOptions:
    """Keyword options of `KubernetesBackend`."""

    kubeconfig: str = ""
    """Path of a kubeconfig. Empty: the client's own default, or the pod's service account inside a cluster."""
    context: str = ""
    """Of that kubeconfig. Empty: its current one."""
    namespace: str = "deepswe-sandboxes"
    """Of every object made here. `deploy/kubernetes/` has it with quota, network policy and permissions."""
    runtime_class: str = ""
    """A RuntimeClass for pods, for example one of gVisor or Kata."""
    seccomp_profile: str = ""
    """A file below the kubelet's seccomp folder on every node. Empty: the container runtime's own filter."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, str | int], ...] = ()
    """As in a pod's `tolerations`."""
    priority_class: str = ""
    pull_secret: str = ""
    """Name of a Secret with registry credentials."""
    image_pull_policy: str = "IfNotPresent"
    cpu_request: float = 0.0
    """Processors reserved for each sandbox. 0: as many as it may use. Less packs more pods on a node."""
    ephemeral_storage_mib: int = 128
    """Node disk a pod may use before the kubelet evicts it; its writable folders are memory and not part of this."""
    start_timeout_s: float = 300.0
    """From the creation of a pod until it runs, its image pulled. Above: SandboxUnavailable."""
    cores: int = 64
    """Processors of the nodes together, by which `sandbox.pool` measures how many sandboxes may start at once."""
    max_requests_per_s: float = 9.0
    """Calls to the API server, on average; a second's worth of them may come at once. Commands in pods do not count."""
    request_timeout_s: float = 30.0
    """Of one call to the API server, and of the handshake of a command."""
    max_lifetime_s: int = 4 * 3600
    """After this the cluster ends a pod, whatever became of its holder."""
    allow_egress: bool = False
    """Make sandboxes although a probe found that pods reach a network."""
    max_processes: int = 4096
    """A pod that can start this many processes has no limit (`podPidsLimit` of the kubelet) and is refused; 0 allows it."""
    probe_targets: tuple[str, ...] = ("169.254.169.254:80", "1.1.1.1:443", "8.8.8.8:53")
    """What a probe pod must not reach, as host:port, beside the API server and another pod."""
