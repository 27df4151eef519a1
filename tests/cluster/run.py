"""Start a real one-node Kubernetes, run a command against it, stop it again: `python tests/cluster/run.py COMMAND...`

With KUBECONFIG set there is nothing to start: the command runs against that cluster, whose nodes must have the image
of the bundled tasks. Otherwise the node is private to this run: its own containerd, etcd and ports, and a pod
network without a way out. Needs root, Debian's packages and the binaries of build.sh. The command finds KUBECONFIG, and
STUDIO_TEST_NODE: a folder with the node's process ids, containerd's socket and its control group's name, for faults.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from containerd import Containerd
from processes import NAME_SERVER, POD_NETWORK, Node

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deepswe-studio"
BINARIES = CACHE / "kubernetes-1.20.2"
START_TIMEOUT_S = 180
REMOVE_TIMEOUT_S = 90
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Before the caller's own, which may lack administrators' programs."""
CLONE_NEWNS = 0x20000  # linux/sched.h
CONTROL_GROUPS = Path("/sys/fs/cgroup")
SECOND_CONTROL_GROUPS = CONTROL_GROUPS / "unified"
"""Where a host with both versions has the second."""
CNI_CACHE = Path("/var/lib/cni/results")
"""Of containerd's network library, which takes no other place."""


class Cluster:
    """The running node. Everything of it is below one folder, one bridge and one control group."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="studio-k8s-", dir="/var/tmp"))
        self.name = self.folder.name.rpartition("-")[2].lower().replace("_", "0")
        self.node = Node(self.folder, BINARIES / "bin", self.name)
        self.runtime = Containerd(self.folder)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        self.node.write_files(HERE)
        (self.folder / "cgroup").write_text(self.name)
        self._make_keys()
        self._make_bridge()
        self._make_network_of_names()
        self._make_groups()
        self._write_profile()
        self.run("containerd", self.node.containerd())
        self.run("etcd", self.node.etcd())
        self.wait("containerd", self._answers)
        self.run("apiserver", self.node.apiserver())
        self._load_images()
        self.wait("apiserver", lambda: self.kubectl("/readyz") == 0)
        self.run("controller-manager", self.node.controller_manager())
        self.run("scheduler", self.node.scheduler())
        self.run("names", self.node.name_service())
        self.run("kubelet", self.node.kubelet())
        self.wait("kubelet", self._ready)

    def run(self, name: str, argv: Sequence[str]) -> None:
        """Start one process, or start it again; its output goes to a file of its name."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                argv,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=ROOT,
                env=os.environ | {"PATH": f"{SYSTEM_PATH}:{os.environ['PATH']}"},
            )
        self.processes[name] = process
        (self.folder / f"{name}.process").write_text(str(process.pid))

    def wait(self, name: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not done():
            if self.processes[name].poll() is not None or time.monotonic() > deadline:
                log = (self.folder / f"{name}.log").read_text().splitlines()[-15:]
                sys.exit("\n".join([*log, f"cluster: {name} did not come up"]))
            time.sleep(0.3)

    def kubectl(self, path: str) -> int:
        """0 when the API server answers `path`. There is no kubectl here."""
        return subprocess.run(
            ["curl", "-sf", "-o", f"{self.folder}/answer", "--cacert", f"{self.folder}/server.crt",
             "-H", "Authorization: Bearer cluster-test-administrator",
             f"https://127.0.0.1:{self.node.api_port}{path}"],
            check=False,
        ).returncode  # fmt: skip

    def _answers(self) -> bool:
        with suppress(subprocess.CalledProcessError):
            return bool(self.runtime.ctr("version"))
        return False

    def _ready(self) -> bool:
        if self.kubectl("/api/v1/nodes/localhost"):
            return False
        answer = (self.folder / "answer").read_text()
        return '"KubeletReady"' in answer

    def supervise(self) -> None:
        """Start again whichever process of the control plane a test has killed."""
        for name, process in list(self.processes.items()):
            if process.poll() is not None and name == "apiserver":
                self.run(name, self.node.apiserver())

    def _make_keys(self) -> None:
        subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        tell(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", *subject,
              "-keyout", f"{self.folder}/server.key", "-out", f"{self.folder}/server.crt"])  # fmt: skip
        tell(["openssl", "genrsa", "-out", f"{self.folder}/accounts.key", "2048"])

    def _make_bridge(self) -> None:
        tell(["ip", "link", "add", self.node.bridge, "type", "bridge"])
        # A link-local address on the bridge would be a way from pods to services of this machine.
        Path(f"/proc/sys/net/ipv6/conf/{self.node.bridge}/disable_ipv6").write_text("1")
        tell(["ip", "link", "set", self.node.bridge, "up"])

    def _make_network_of_names(self) -> None:
        """The name service's own network: pods that see no other pod do not see it either."""
        names = self.node.names
        tell(["ip", "netns", "add", names])
        tell(["ip", "link", "add", names, "type", "veth", "peer", "name", "eth0", "netns", names])
        tell(["ip", "link", "set", names, "master", self.node.bridge, "up"])
        Path(f"/sys/class/net/{names}/brport/isolated").write_text("1")
        prefix = POD_NETWORK.partition("/")[2]
        tell(["ip", "-n", names, "addr", "add", f"{NAME_SERVER}/{prefix}", "dev", "eth0"])
        tell(["ip", "-n", names, "link", "set", "eth0", "up"])

    def _make_groups(self) -> None:
        for controller in self._controllers():
            (controller / self.name).mkdir(exist_ok=True)

    def _write_profile(self) -> None:
        """The seccomp profile of Docker's sandboxes, where the kubelet looks for profiles."""
        path = self.folder / "kubelet" / "seccomp" / "deepswe.json"
        path.parent.mkdir(parents=True)
        code = "from sandbox.docker.seccomp import profile; print(profile())"
        path.write_bytes(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT))

    def _controllers(self) -> list[Path]:
        if (CONTROL_GROUPS / "cgroup.controllers").exists():
            return [CONTROL_GROUPS]
        return sorted({*CONTROL_GROUPS.iterdir()} - {SECOND_CONTROL_GROUPS})

    def _load_images(self) -> None:
        module = [sys.executable, "-m", "tests.cluster.node_images"]
        tell([*module, str(self.folder), str(CACHE)])

    def _remove_containers(self) -> None:
        """By containerd, so that each shim takes its socket along, which lies in a folder of the whole machine, as what
        the network plugins keep does.
        """
        with suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired):
            containers = self.runtime.containers()
            for container in containers:
                for path in CNI_CACHE.glob(f"*-{container}-*"):
                    path.unlink()
            self.runtime.ctr("tasks", "delete", "--force", *containers, timeout_s=REMOVE_TIMEOUT_S)

    def _kill_what_is_left(self) -> None:
        """Of containerd, whose processes all name the folder, and of containers."""
        for controller in self._controllers():
            for members in (controller / self.name).glob("**/cgroup.procs"):
                for number in members.read_text().split():
                    kill(int(number))
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if str(self.folder).encode() in path.read_bytes():
                    kill(int(path.parent.name))

    def stop(self) -> None:
        """Leave nothing: containers, processes, mounts, network, control groups, files."""
        for name in ("kubelet", "names", "scheduler", "controller-manager", "apiserver", "etcd"):
            end(self.processes.get(name))
        self._remove_containers()
        end(self.processes.get("containerd"))
        self._kill_what_is_left()
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if line.split()[1].startswith(str(self.folder)):
                subprocess.run(["umount", "-l", line.split()[1]], check=False)
        subprocess.run(["ip", "netns", "del", self.node.names], check=False)
        subprocess.run(["ip", "link", "del", self.node.bridge], check=False)
        for controller in self._controllers():
            for group in sorted((controller / self.name).glob("**/"), reverse=True):
                with suppress(OSError):
                    group.rmdir()
        if os.environ.get("STUDIO_KEEP_LOGS"):
            shutil.copytree(
                self.folder, os.environ["STUDIO_KEEP_LOGS"], dirs_exist_ok=True,
                ignore=lambda folder, names: [n for n in names if not n.endswith(".log")],
            )  # fmt: skip
        shutil.rmtree(self.folder, ignore_errors=True)


def tell(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        sys.exit(f"cluster: {' '.join(argv[:3])}: {done.stderr.strip()[-500:]}")


def kill(number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)


def end(process: subprocess.Popen[bytes] | None) -> None:
    if process is None:
        return
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def enter_own_mounts() -> None:
    """A mount namespace of this run's own, with which all that the node mounts goes. It has one version of control groups: of
    two the kubelet knows only the first, and crun refuses them where the second has controllers. Where the second was, crun
    still writes as if there were one: into a folder of this run's.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    tell(["mount", "--make-rprivate", "/"])
    if SECOND_CONTROL_GROUPS.is_mount():
        tell(["mount", "-t", "tmpfs", "tmpfs", str(SECOND_CONTROL_GROUPS)])


def run_against(cluster: Cluster, argv: Sequence[str]) -> int:
    env = {
        **os.environ,
        "KUBECONFIG": str(cluster.node.kubeconfig),
        "STUDIO_TEST_NODE": str(cluster.folder),
    }
    process = subprocess.Popen(argv, env=env, cwd=ROOT)
    try:
        while process.poll() is None:
            cluster.supervise()
            time.sleep(0.5)
    finally:
        process.terminate()
        process.wait()
    return process.returncode


def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if "KUBECONFIG" in os.environ:
        return subprocess.run(argv, cwd=ROOT, check=False).returncode
    tell([str(HERE / "build.sh"), str(BINARIES)])
    if os.geteuid() != 0:
        sys.exit("cluster: starting a node needs root; or name a cluster of yours by KUBECONFIG")
    enter_own_mounts()
    began = time.monotonic()
    cluster = Cluster()
    try:
        cluster.start()
        print(f"cluster: ready in {time.monotonic() - began:.0f} s in {cluster.folder}", flush=True)
        return run_against(cluster, argv)
    except KeyboardInterrupt:
        return 130
    finally:
        cluster.stop()
        print("cluster: stopped", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
