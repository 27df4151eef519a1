"""Start a real one-node Kubernetes, run a command against it, stop it again: `python tests/cluster/run.py COMMAND...`

With KUBECONFIG set there is nothing to start: the command runs against that cluster, whose nodes must have the image
of the bundled tasks. Otherwise the node is private to this run: its own dockerd, etcd and ports, and a pod network
without a way out. Needs root, Debian's packages and the binaries of build.sh. The command finds KUBECONFIG, and
STUDIO_TEST_NODE: a folder with the node's process ids, its engine's socket and its control group's name, for faults.
"""

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

from processes import NAME_SERVER, POD_NETWORK, Node

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deepswe-studio"
BINARIES = CACHE / "kubernetes-1.20.2"
START_TIMEOUT_S = 180
REMOVE_TIMEOUT_S = 90
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Before the caller's own, whose python3 may be a version manager's and slow to start: each pod starts several."""
PAUSE = "#include <signal.h>\n#include <unistd.h>\nint main(){signal(SIGCHLD,SIG_IGN);for(;;)pause();}\n"


class Cluster:
    """The running node. Everything of it is below one folder, one bridge and one control group."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="studio-k8s-", dir="/var/tmp"))
        self.name = self.folder.name.rpartition("-")[2].lower().replace("_", "0")
        self.node = Node(self.folder, BINARIES / "bin", self.name)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        self.node.write_files(HERE)
        (self.folder / "cgroup").write_text(self.name)
        self._make_keys()
        self._make_bridge()
        self._make_network_of_names()
        self._make_groups()
        self._write_profile()
        self.run("dockerd", self.node.dockerd())
        self.run("etcd", self.node.etcd())
        self.wait("dockerd", lambda: self.docker("version").returncode == 0)
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

    def docker(
        self, *arguments: str, timeout_s: float | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        argv = ["docker", f"--host={self.node.engine}", *arguments]
        return subprocess.run(argv, capture_output=True, check=False, timeout=timeout_s)

    def kubectl(self, path: str) -> int:
        """0 when the API server answers `path`. There is no kubectl here."""
        return subprocess.run(
            ["curl", "-sf", "-o", f"{self.folder}/answer", "--cacert", f"{self.folder}/server.crt",
             "-H", "Authorization: Bearer cluster-test-administrator",
             f"https://127.0.0.1:{self.node.api_port}{path}"],
            check=False,
        ).returncode  # fmt: skip

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
        code = "from sandbox.docker_seccomp import profile; print(profile())"
        path.write_bytes(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT))

    def _controllers(self) -> list[Path]:
        top = Path("/sys/fs/cgroup")
        return [top] if (top / "cgroup.controllers").exists() else sorted(set(top.iterdir()))

    def _load_images(self) -> None:
        source = self.folder / "pause.c"
        source.write_text(PAUSE)
        tell(["gcc", "-static", "-Os", "-o", f"{self.folder}/pause", str(source)])
        archive = self.folder / "pause.tar"
        tell(["tar", "-C", str(self.folder), "-cf", str(archive), "pause"])
        self.docker("import", "--change", 'ENTRYPOINT ["/pause"]', str(archive), "pause:local")
        argv = [sys.executable, "-m", "sandbox.images", "--cache", str(CACHE)]
        tell([*argv, "--engine", self.node.engine])

    def _remove_containers(self) -> None:
        """An engine whose kubelet was ended in the middle of a start may wait for that start for ever."""
        with suppress(subprocess.TimeoutExpired):
            containers = self.docker("ps", "-aq", timeout_s=REMOVE_TIMEOUT_S).stdout.decode()
            if containers:
                self.docker("rm", "-f", *containers.split(), timeout_s=REMOVE_TIMEOUT_S)

    def _kill_what_is_left(self) -> None:
        """Of the engine, whose processes all name the folder, and of containers."""
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
        end(self.processes.get("dockerd"))
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
