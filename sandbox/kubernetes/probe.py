"""Before the first sandbox: do pods of this cluster reach any network, and does anything limit their processes?

A NetworkPolicy is silently ignored by a network plugin that does not know it, and a pod cannot ask for a process limit
of its own. So two pods like any sandbox try it: one listens, the other connects to it, to the API server and to
addresses outside, and starts threads until it is refused.
"""

import json
import secrets
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from sandbox.base import COMMAND_ENV, SandboxSpec
from sandbox.errors import SandboxUnavailable
from sandbox.files import said
from sandbox.image_base import BLANK
from sandbox.kubernetes.api import Api, ApiError, Json
from sandbox.kubernetes.command import PodCommands
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.kubernetes.pod import pod_body
from sandbox.kubernetes.start import start_pod
from sandbox.kubernetes.watch import PodWatch

_ENV = COMMAND_ENV | {"PATH": f"{COMMAND_ENV['PATH']}:/testbed/.venv/bin"}
"""Where an image's only Python is its repository's, it does."""
_PORT = 18080
_TIMEOUT_S = 60.0
_LISTEN = f"""
import socket
listener = socket.create_server(("0.0.0.0", {_PORT}))
while True:
    listener.accept()[0].close()
"""
_TRY = """
import json, socket, sys, threading
targets, limit = json.loads(sys.argv[1]), int(sys.argv[2])
reached, forever = [], threading.Event()
def connect(target):
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 3).close()
        reached.append(target)
    except OSError:
        pass
for target in targets:
    thread = threading.Thread(target=connect, args=(target,))
    thread.start()
    thread.join()
threading.stack_size(32768)
started = 0
try:
    while started < limit:
        threading.Thread(target=forever.wait, daemon=True).start()
        started += 1
except RuntimeError:
    pass
print(json.dumps({"reached": reached, "started": started}), flush=True)
import os
os._exit(0)
"""


def probe(
    api: Api,
    watch: PodWatch,
    spec: SandboxSpec,
    options: KubernetesOptions,
    *,
    backend: str,
    owner_uid: str,
) -> None:
    """Raises SandboxUnavailable with what was reached and how to shut it, ApiError."""
    pods = {}
    for role, command in (("peer", ["python3", "-c", _LISTEN]), ("probe", None)):
        name = f"{role}-{secrets.token_hex(8)}"
        # Over the image's own repository no volume lies.
        seen = replace(spec, workdir=BLANK)
        body = pod_body(name, seen, options, backend=backend, owner_uid=owner_uid)
        if command:
            container = body["spec"]["containers"][0]
            container["command"] = command
            container["env"] = [{"name": name, "value": value} for name, value in _ENV.items()]
        pods[role] = body
    commands = PodCommands(api, watch, pods["probe"]["metadata"]["name"], options)
    try:
        for body in pods.values():
            start_pod(api, watch, body, options)
        peer = watch.wait_for(pods["peer"]["metadata"]["name"], lambda s: bool(s.ip), 10)
        found = _try(
            commands, [f"{peer.ip if peer else ''}:{_PORT}", *_targets(api, options)], options
        )
    finally:
        for body in pods.values():
            PodCommands(api, watch, body["metadata"]["name"], options).close()
    _judge(found, options)


def _targets(api: Api, options: KubernetesOptions) -> list[str]:
    server = urlsplit(api.configuration.host)
    targets = [f"{server.hostname}:{server.port or 443}", *options.probe_targets]
    try:
        service = api.call("GET", "/api/v1/namespaces/default/services/kubernetes")
        targets.append(f"{service['spec']['clusterIP']}:443")
    except ApiError as error:
        if error.status != 403:
            raise
    return targets


def _try(commands: PodCommands, targets: list[str], options: KubernetesOptions) -> Json:
    result = commands.run(
        ["python3", "-c", _TRY, json.dumps(targets), str(options.max_processes)],
        stdin=None,
        cwd="/",
        env=_ENV,
        user="agent",
        timeout_s=_TIMEOUT_S,
        max_output_bytes=1 << 16,
    )
    if not result.ok:
        raise SandboxUnavailable(
            f"egress probe: did not run: {said(result)}: does the image hold python3?"
        )
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def _judge(found: Json, options: KubernetesOptions) -> None:
    if found["reached"] and not options.allow_egress:
        raise SandboxUnavailable(
            f"namespace {options.namespace!r}: a pod reached {', '.join(found['reached'])}: apply "
            "deploy/kubernetes/network-policy.yaml on a cluster whose network plugin enforces it, or set allow_egress"
        )
    if options.max_processes and found["started"] >= options.max_processes:
        raise SandboxUnavailable(
            f"a pod started {found['started']} processes: set podPidsLimit in the kubelet's configuration, "
            "or max_processes=0 to do without a limit"
        )
