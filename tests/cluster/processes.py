"""The processes of one private Kubernetes node: their command lines, and nothing else.

Everything listens on loopback, at ports and paths of this run. Pure but for reading which ports are free.
"""

import json
import socket
import sys
from pathlib import Path

CNI_PLUGINS = "/usr/lib/cni"
POD_NETWORK = "10.213.0.0/16"
NAME_SERVER = "10.213.255.53"
"""Its last addresses are given to no pod before some tens of thousands."""
SERVICE_NETWORK = "10.214.0.0/24"
TOKEN = "cluster-test-administrator"
MAX_PIDS = 56
"""Of one pod; the contract's sandboxes ask for 48 processes, and their supervisor needs a few."""
LOOPBACK = "127.0.0.1"
PAUSE_IMAGE = "pause:local"
CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-run"
[grpc]
address = "{folder}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
stream_server_address = "{address}"
netns_mounts_under_state_dir = true
disable_apparmor = true
# The kubelet asks for -998 for its own containers; inside some containers and virtual machines the kernel refuses.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{folder}/cni-bin"
conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "/usr/bin/crun"
Root = "{folder}/crun"
"""
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["ResponseStarted", "ResponseComplete", "Panic"],
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}
"""One line for each request of a service account, such as a backend's; the node's own processes are administrators."""


def free_ports(number: int) -> list[int]:
    listeners = [socket.create_server((LOOPBACK, 0)) for _ in range(number)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


class Node:
    """Paths, ports and command lines of one node under `folder`; `name` is unique on the machine."""

    def __init__(self, folder: Path, binaries: Path, name: str) -> None:
        self.folder, self.binaries, self.name = folder, binaries, name
        self.etcd_port, self.peer_port, self.api_port, self.kubelet_port = free_ports(4)
        self.kubeconfig = folder / "kubeconfig"
        self.bridge = f"sk{name}"
        self.names = f"sn{name}"
        """The network namespace of the name service, and its port on the bridge."""

    def write_files(self, here: Path) -> None:
        """Everything the processes read, but for keys."""
        plugins = self.folder / "cni-bin"
        plugins.mkdir()
        for name in ("bridge", "host-local", "loopback"):
            (plugins / name).symlink_to(f"{CNI_PLUGINS}/{name}")
        (plugins / "isolate").write_text((here / "isolate.sh").read_text())
        (plugins / "isolate").chmod(0o755)
        (self.folder / "cni").mkdir()
        (self.folder / "cni" / "10-studio.conflist").write_text(json.dumps(self._network()))
        runtime = CONTAINERD.format(folder=self.folder, pause=PAUSE_IMAGE, address=LOOPBACK)
        (self.folder / "containerd.toml").write_text(runtime)
        (self.folder / "audit.json").write_text(json.dumps(AUDIT))
        (self.folder / "tokens").write_text(f'{TOKEN},admin,admin,"system:masters"\n')
        self.kubeconfig.write_text(json.dumps(self._kubeconfig(), indent=1))

    def _network(self) -> dict[str, object]:
        """A bridge that leads nowhere: no gateway, no route, no masquerade; ports on it do not see each other."""
        addresses = {
            "type": "host-local",
            "dataDir": str(self.folder / "addresses"),
            "ranges": [[{"subnet": POD_NETWORK}]],
        }
        bridge = {"type": "bridge", "bridge": self.bridge, "isGateway": False, "ipMasq": False}
        plugins = [{**bridge, "ipam": addresses}, {"type": "isolate"}]
        return {"cniVersion": "0.4.0", "name": "studio", "plugins": plugins}

    def _kubeconfig(self) -> dict[str, object]:
        cluster = {
            "server": f"https://{LOOPBACK}:{self.api_port}",
            "certificate-authority": str(self.folder / "server.crt"),
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }

    def containerd(self) -> list[str]:
        return ["containerd", f"--config={self.folder}/containerd.toml"]

    def etcd(self) -> list[str]:
        client, peer = (f"http://{LOOPBACK}:{port}" for port in (self.etcd_port, self.peer_port))
        return [
            "etcd", f"--data-dir={self.folder}/etcd", "--unsafe-no-fsync",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ]  # fmt: skip

    def apiserver(self) -> list[str]:
        return [
            f"{self.binaries}/kube-apiserver",
            f"--etcd-servers=http://{LOOPBACK}:{self.etcd_port}",
            f"--bind-address={LOOPBACK}", f"--advertise-address={LOOPBACK}",
            f"--secure-port={self.api_port}", "--insecure-port=0",
            f"--tls-cert-file={self.folder}/server.crt",
            f"--tls-private-key-file={self.folder}/server.key",
            f"--token-auth-file={self.folder}/tokens", "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default",
            f"--service-account-key-file={self.folder}/accounts.key",
            f"--service-account-signing-key-file={self.folder}/accounts.key",
            f"--service-cluster-ip-range={SERVICE_NETWORK}", "--endpoint-reconciler-type=none",
            "--kubelet-preferred-address-types=Hostname", "--allow-privileged=false",
            f"--audit-policy-file={self.folder}/audit.json",
            f"--audit-log-path={self.folder}/audit.log",
        ]  # fmt: skip

    def controller_manager(self) -> list[str]:
        return [
            f"{self.binaries}/kube-controller-manager", f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false", "--port=0", "--secure-port=0",
            f"--service-account-private-key-file={self.folder}/accounts.key",
            "--use-service-account-credentials=false", "--kube-api-qps=200", "--kube-api-burst=400",
        ]  # fmt: skip

    def scheduler(self) -> list[str]:
        return [
            f"{self.binaries}/kube-scheduler", f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false", "--port=0", "--secure-port=0",
            "--kube-api-qps=200", "--kube-api-burst=400",
        ]  # fmt: skip

    def name_service(self) -> list[str]:
        module = [sys.executable, "-m", "tests.cluster.names"]
        return [*module, str(self.kubeconfig), f"/run/netns/{self.names}", NAME_SERVER]

    def kubelet(self) -> list[str]:
        return [
            f"{self.binaries}/kubelet", f"--kubeconfig={self.kubeconfig}",
            f"--root-dir={self.folder}/kubelet",
            f"--seccomp-profile-root={self.folder}/kubelet/seccomp",
            f"--cert-dir={self.folder}/kubelet-keys",
            # The name is also the address by which the API server finds it.
            "--hostname-override=localhost", f"--address={LOOPBACK}", f"--port={self.kubelet_port}",
            "--read-only-port=0", "--healthz-port=0",
            "--anonymous-auth=true", "--authorization-mode=AlwaysAllow",
            "--container-runtime=remote",
            f"--container-runtime-endpoint=unix://{self.folder}/containerd.sock",
            f"--pod-infra-container-image={PAUSE_IMAGE}", "--cgroup-driver=cgroupfs",
            f"--cgroup-root=/{self.name}", "--fail-swap-on=false", "--eviction-hard=",
            f"--cluster-dns={NAME_SERVER}", "--cluster-domain=cluster.local",
            "--make-iptables-util-chains=false",
            f"--pod-max-pids={MAX_PIDS}", "--feature-gates=SizeMemoryBackedVolumes=true",
            "--kube-api-qps=200", "--kube-api-burst=400", "--event-qps=0", "--max-pods=250",
        ]  # fmt: skip
