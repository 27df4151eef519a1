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
        self.engine = f"unix://{folder}/docker.sock"
        self.kubeconfig = folder / "kubeconfig"
        self.bridge = f"sk{name}"
        self.names = f"sn{name}"
        """The network namespace of the name service, and its port on the bridge."""

    def write_files(self, here: Path) -> None:
        """Everything the processes read, but for keys."""
        wrapper = self.folder / "runc"
        wrapper.write_text((here / "runc_at_floor.sh").read_text())
        wrapper.chmod(0o755)
        plugins = self.folder / "cni-bin"
        plugins.mkdir()
        (plugins / "isolate").write_text((here / "isolate.py").read_text())
        (plugins / "isolate").chmod(0o755)
        (self.folder / "cni").mkdir()
        (self.folder / "cni" / "10-studio.conflist").write_text(json.dumps(self._network()))
        (self.folder / "daemon.json").write_text("{}")
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

    def dockerd(self) -> list[str]:
        return [
            "dockerd", f"--host={self.engine}", f"--data-root={self.folder}/images",
            f"--exec-root={self.folder}/exec", f"--pidfile={self.folder}/dockerd.pid",
            f"--config-file={self.folder}/daemon.json", "--bridge=none", "--iptables=false",
            "--ip-masq=false", "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--add-runtime=floor={self.folder}/runc", "--default-runtime=floor",
        ]  # fmt: skip

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
            "--container-runtime=docker", f"--docker-endpoint={self.engine}",
            "--pod-infra-container-image=pause:local", "--cgroup-driver=cgroupfs",
            f"--cgroup-root=/{self.name}", "--fail-swap-on=false", "--eviction-hard=",
            f"--cluster-dns={NAME_SERVER}", "--cluster-domain=cluster.local",
            "--network-plugin=cni", f"--cni-conf-dir={self.folder}/cni",
            f"--cni-bin-dir={CNI_PLUGINS},{self.folder}/cni-bin",
            f"--cni-cache-dir={self.folder}/cni-cache", "--make-iptables-util-chains=false",
            f"--pod-max-pids={MAX_PIDS}", "--feature-gates=SizeMemoryBackedVolumes=true",
            "--kube-api-qps=200", "--kube-api-burst=400", "--event-qps=0", "--max-pods=250",
        ]  # fmt: skip
