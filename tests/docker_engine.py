"""A Docker engine of the tests' own, which they may kill: containerd and dockerd on private paths,
no iptables, and no bridge unless one is asked for.

    python -m tests.docker_engine [--network] COMMAND ARGUMENT...

runs COMMAND with DOCKER_HOST set to such an engine that holds the bundled tasks' image, and fails if
anything of the engine's sandboxes is left afterwards. With --network it has a bridge without a way
out, for containers of others that are spoken to by HTTP. The image's Debian is kept between runs in
`$XDG_CACHE_HOME/deepswe-studio`. It never touches the system's engine or its socket.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

import docker

from sandbox.images import make_image

PROGRAMS = ("dockerd", "containerd", "runc", "docker-init", "debootstrap")
START_TIMEOUT_S = 60.0
BRIDGE_ADDRESS = "172.31.254.1/24"
CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-run"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{folder}/containerd.sock"
"""


def lacks_engine() -> str:
    """Why no engine can be started here; empty if one can."""
    if os.geteuid() != 0:
        return "no private Docker engine: only root can start one"
    missing = [program for program in PROGRAMS if shutil.which(program, path=_PATH) is None]
    return f"no private Docker engine: {', '.join(missing)} not found" if missing else ""


_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class DockerEngine:
    """One engine below one folder, whichever process started it. `kill` and `start` again keep its
    containers and images.
    """

    def __init__(self, folder: Path, *, bridge: str = "") -> None:
        self.folder = folder
        self.bridge = bridge
        self.url = f"unix://{folder}/docker.sock"
        self.cgroup_parent = f"/{folder.name}"

    @classmethod
    def at(cls, url: str) -> "DockerEngine | None":
        """The engine at `url` if it is one of these, and so may be killed."""
        folder = Path(url.removeprefix("unix://")).parent
        return cls(folder) if (folder / "containerd.toml").is_file() else None

    def start(self) -> None:
        """Start what does not run; returns once it answers. Raises RuntimeError with its log."""
        if not self._pid("containerd"):
            config = self.folder / "containerd.toml"
            config.write_text(CONTAINERD.format(folder=self.folder))
            self._spawn("containerd", "--config", str(config))
        for stale in ("docker.pid", "docker.sock"):
            (self.folder / stale).unlink(missing_ok=True)
        self._spawn(
            "dockerd",
            f"--host={self.url}",
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/docker.pid",
            f"--containerd={self.folder}/containerd.sock",
            f"--cgroup-parent={self.cgroup_parent}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--bridge={self._make_bridge()}",
            "--iptables=false",
            "--ip6tables=false",
        )
        self._await_answer()

    def _make_bridge(self) -> str:
        if not self.bridge:
            return "none"
        if not Path(f"/sys/class/net/{self.bridge}").exists():
            for words in (
                ("link", "add", self.bridge, "type", "bridge"),
                ("address", "add", BRIDGE_ADDRESS, "dev", self.bridge),
                ("link", "set", self.bridge, "up"),
            ):
                subprocess.run(["ip", *words], check=True, env={"PATH": _PATH})
        return self.bridge

    def _spawn(self, program: str, *arguments: str) -> None:
        """As a daemon: it is nobody's child, so that any process may end it."""
        detached = ["setsid", "--fork", "sh", "-c", 'echo $$ > "$0"; exec "$@"']
        with (self.folder / f"{program}.log").open("ab") as log:
            subprocess.run(
                [*detached, str(self.folder / f"{program}.number"), program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": _PATH},
                check=True,
            )

    def _pid(self, program: str) -> int:
        """Of the running program; 0 when it does not run."""
        with suppress(OSError, ValueError):
            pid = int((self.folder / f"{program}.number").read_text())
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            return 0 if state in "ZX" else pid
        return 0

    def _end(self, program: str, number: signal.Signals) -> None:
        """Signal it and wait for its death. Raises RuntimeError."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while pid := self._pid(program):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{program}, process {pid}: does not end on {number.name}")
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            time.sleep(0.1)

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            with suppress(docker.errors.DockerException), self.client() as client:
                client.ping()
                return
            time.sleep(0.1)
        log = (self.folder / "dockerd.log").read_text(errors="replace")
        raise RuntimeError(f"dockerd does not answer at {self.url}: {log[-2000:]}")

    @contextmanager
    def client(self) -> Iterator[docker.DockerClient]:
        made = docker.DockerClient(base_url=self.url, timeout=60)
        try:
            yield made
        finally:
            made.close()

    def load_image(self) -> None:
        """Bring in the bundled tasks' image. Raises SandboxUnavailable if it cannot be made."""
        make_image(self.url, cache_folder())

    def kill(self) -> None:
        """SIGKILL to dockerd, as a crash is; containerd and the containers stay."""
        self._end("dockerd", signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP to dockerd: it takes connections and says nothing."""
        os.kill(self._pid("dockerd"), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on; nothing happens to one that is not stopped."""
        os.kill(self._pid("dockerd"), signal.SIGCONT)

    def leftovers(self) -> list[str]:
        """What exists of any container: containers, processes, control groups, mounts."""
        with self.client() as client:
            containers = [c.name for c in client.containers.list(all=True, ignore_removed=True)]
        mounts = [mount for mount in self._mounts() if mount != f"{self.folder}/data"]
        return [*containers, *shims_of(self.folder), *self._groups(), *mounts]

    def _groups(self) -> list[str]:
        parents = {
            *Path("/sys/fs/cgroup").glob(f"*{self.cgroup_parent}"),
            *Path("/sys/fs/cgroup").glob(self.cgroup_parent.lstrip("/")),
        }
        return sorted({str(child) for p in parents for child in p.iterdir() if child.is_dir()})

    def _mounts(self) -> list[str]:
        rows = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
        return [row[1] for row in rows if row[1].startswith(f"{self.folder}/")]

    def stop(self) -> None:
        """End the engine and everything that it runs, and remove its folder."""
        with suppress(docker.errors.DockerException), self.client() as client:
            for container in client.containers.list(all=True, ignore_removed=True):
                with suppress(docker.errors.APIError):
                    container.remove(force=True)
        self._end("dockerd", signal.SIGTERM)
        self._end("containerd", signal.SIGTERM)
        for line in shims_of(self.folder):
            with suppress(ProcessLookupError):
                os.kill(int(line.split()[1].rstrip(":")), signal.SIGKILL)
        for mount in reversed(self._mounts()):
            subprocess.run(["umount", "-l", mount], check=False)
        self._remove_groups()
        if self.bridge:
            subprocess.run(["ip", "link", "delete", self.bridge], check=False, env={"PATH": _PATH})
        shutil.rmtree(self.folder, ignore_errors=True)

    def _remove_groups(self) -> None:
        parents = [Path(group).parent for group in self._groups()]
        parents += Path("/sys/fs/cgroup").glob(f"*{self.cgroup_parent}")
        for group in (*map(Path, self._groups()), *parents):
            with suppress(OSError):
                group.rmdir()


def cache_folder() -> Path:
    """Where built images are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "deepswe-studio"


def shims_of(folder: Path) -> list[str]:
    """Shims of containers of the engine in `folder`; a container's own processes cannot outlive the group they are in."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if "containerd-shim" in line and str(folder) in line:
                found.append(f"process {path.parent.name}: {line}")
    return found


@contextmanager
def running_engine(*, image: bool = True, network: bool = False) -> Iterator[DockerEngine]:
    """A started engine, gone again afterwards; with `image`, it holds the bundled tasks' image."""
    folder = Path(mkdtemp(prefix="studio-docker-"))
    engine = DockerEngine(folder, bridge=f"studio-{secrets.token_hex(3)}" if network else "")
    try:
        engine.start()
        if image:
            engine.load_image()
        yield engine
    finally:
        engine.stop()


def main(command: list[str]) -> int:
    reason = lacks_engine()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    network = command[:1] == ["--network"]
    with running_engine(network=network) as engine:
        command = command[network:]
        code = subprocess.run(command, env={**os.environ, "DOCKER_HOST": engine.url}).returncode
        left = engine.leftovers()
    print("\n".join(f"left behind: {trace}" for trace in left), file=sys.stderr, end="")
    return code or (1 if left else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
