"""Real services for the tests, started when a test asks for them, and reasons to leave a test out.

`database_url` is a new PostgreSQL database, `redis_url` an empty Redis; both servers are private to
this session. Tests that use Django's database get one on the same PostgreSQL. Where a server's
program is missing, the tests that need it are left out with a reason; with CI set they fail. It
holds no fixture about runs, tasks or pages.
"""

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import NoReturn

import psycopg
import pytest

START_TIMEOUT_S = 30


# ---- what this machine lacks


def lacks_gpu() -> str:
    return "" if shutil.which("nvidia-smi") else "no NVIDIA GPU: nvidia-smi is not on PATH"


def lacks_docker() -> str:
    path = Path("/var/run/docker.sock")
    with socket.socket(socket.AF_UNIX) as client:
        if "DOCKER_HOST" in os.environ or client.connect_ex(str(path)) == 0:
            return ""
    return f"no Docker engine: DOCKER_HOST is not set and nothing answers at {path}"


def lacks_cluster() -> str:
    path = Path(os.environ.get("KUBECONFIG", "~/.kube/config")).expanduser()
    return "" if path.is_file() else f"no Kubernetes cluster: {path} does not exist"


def lacks_browser() -> str:
    return "" if shutil.which("chromium") else "no chromium on PATH: run scripts/setup.sh --tests"


LACKS: dict[str, Callable[[], str]] = {
    "gpu": lacks_gpu,
    "docker": lacks_docker,
    "k8s": lacks_cluster,
    "browser": lacks_browser,
}
OPTIONAL_IN_CI = {"gpu", "docker", "k8s"}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers():
        reason = LACKS.get(marker.name, str)()
        if reason and marker.name in OPTIONAL_IN_CI:
            pytest.skip(reason)
        elif reason:
            leave_out(reason)


def leave_out(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


# ---- PostgreSQL


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A private PostgreSQL server that is quick rather than durable: its database `postgres`."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        leave_out("no PostgreSQL under /usr/lib/postgresql: run scripts/setup.sh --tests")
    binaries = programs[-1].parent
    folder = Path(mkdtemp(prefix="studio-postgres-"))
    # PostgreSQL refuses to run as root.
    become: list[str] = []
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        become = ["runuser", "-u", "postgres", "--"]
    port = free_port()
    settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "fsync": "off"}
    options = f"-p {port} " + " ".join(f"-c {name}={value}" for name, value in settings.items())

    def run(program: str, *arguments: str) -> None:
        command = [*become, str(binaries / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL)

    try:
        run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """A new, empty PostgreSQL database for the processes that a test starts."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}".encode())
        yield postgres_url.removesuffix("/postgres") + f"/{name}"
        server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, postgres_url: str
) -> None:
    """Put pytest-django's database on the private PostgreSQL, whatever the settings say."""
    from django.db import connections

    server = psycopg.conninfo.conninfo_to_dict(postgres_url)
    connections.databases["default"].update(
        ENGINE="django.db.backends.postgresql",
        HOST=server["host"],
        PORT=server["port"],
        USER=server["user"],
        NAME="studio",
        OPTIONS={},
    )
    # A connection made before this would still be to the old database.
    with suppress(AttributeError):
        del connections["default"]


# ---- Redis


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """A private Redis that keeps nothing on disk, as its URL."""
    program = shutil.which("redis-server")
    if not program:
        leave_out("no redis-server on PATH: run scripts/setup.sh --tests")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port, process)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """A Redis with nothing in it."""
    from redis import Redis

    with closing(Redis.from_url(redis_server)) as client:
        client.flushall()
    return redis_server


# ---- Kubernetes


@pytest.fixture(scope="session")
def kubernetes_options() -> Iterator[dict[str, object]]:
    """A new namespace made of `deploy/kubernetes`, and what a backend needs to use it with that role alone."""
    from tests.cluster.namespace import sandbox_namespace

    with sandbox_namespace() as options:
        yield options


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when something listens there; fail when the process ends first or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail(f"{process.args}: nothing listens on port {port} after {START_TIMEOUT_S} s")
