"""Pull images onto every node before they are needed: `python -m sandbox.prepull IMAGE...`, wave by wave, with progress.

One DaemonSet a wave, one idle container an image; when each image is there on each node, or cannot be had, the wave is
removed and the next begins. Of one that is killed, a reaper removes the ConfigMap that owns its wave, and the wave with it.
Whether an image holds what a sandbox needs is not looked at.
"""

import argparse
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sandbox.base import SandboxLabels
from sandbox.errors import SandboxUnavailable
from sandbox.kubernetes.api import Api, ApiError, Json
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.kubernetes.pod import PREFIX, owned_by, run_name, run_object
from sandbox.kubernetes.reap import delete
from sandbox.kubernetes.status import image_problem

_GROUP = "apis/apps/v1"
_RUN = "prepull"
_POLL_S = 1.0


class Wave(NamedTuple):
    """How far one wave is."""

    number: int
    num_waves: int
    pulled: int
    wanted: int
    """Images times nodes; 0 until the cluster has said on how many nodes."""
    failed: Mapping[str, str]
    """Image -> why it cannot be had, of one node that said so."""

    @property
    def over(self) -> bool:
        return self.wanted > 0 and self.pulled >= self.wanted


def prepull(
    api: Api,
    images: Sequence[str],
    options: KubernetesOptions,
    *,
    wave_size: int,
    timeout_s: float,
    report: Callable[[Wave], None],
) -> dict[str, str]:
    """Pull `images`, `wave_size` at a time. The ones that cannot be had, with the reason.

    Raises SandboxUnavailable when a wave takes longer than `timeout_s`, ApiError.
    """
    failed: dict[str, str] = {}
    unique = list(dict.fromkeys(images))
    waves = [unique[n : n + wave_size] for n in range(0, len(unique), wave_size)]
    with _owner(api, lifetime_s=2 * timeout_s * len(waves)) as owner:
        for number, wave in enumerate(waves, 1):
            name = f"prepull-{secrets.token_hex(8)}"
            body = _daemon_set(name, wave, options, owner)
            try:
                api.call("POST", api.path("daemonsets", group=_GROUP), body=body)
                for state in _follow(api, name, wave, (number, len(waves)), timeout_s):
                    report(state)
                    failed |= state.failed
            finally:
                delete(api, "daemonsets", name, group=_GROUP)
    return failed


@contextmanager
def _owner(api: Api, lifetime_s: float) -> Iterator[Json]:
    """A reference to a ConfigMap that a reaper removes when this process is dead. Raises ApiError."""
    pull = secrets.token_hex(8)
    labels = SandboxLabels.held_here(run=_RUN, rollout=pull, for_s=lifetime_s)
    try:
        body = run_object(labels, pull, lifetime_s)
        made = api.call("POST", api.path("configmaps"), body=body)
        yield owned_by(_RUN, pull, made["metadata"]["uid"])
    finally:
        delete(api, "configmaps", run_name(_RUN, pull))


def _follow(
    api: Api, name: str, wave: Sequence[str], place: tuple[int, int], timeout_s: float
) -> Iterator[Wave]:
    """The state of a wave whenever it has changed, until it is over. Raises SandboxUnavailable, ApiError."""
    deadline = time.monotonic() + timeout_s
    last = None
    while last is None or not last.over:
        if time.monotonic() > deadline:
            raise SandboxUnavailable(
                f"wave {place[0]} of {place[1]}: not pulled after timeout_s={timeout_s:g}: "
                f"{', '.join(wave)}: give it longer, or smaller waves"
            )
        daemon_set = api.call("GET", api.path("daemonsets", name, group=_GROUP))
        pods = api.call(
            "GET", api.path("pods"), query={"labelSelector": f"{PREFIX}/prepull={name}"}
        )
        state = _state(daemon_set, pods["items"], wave, place)
        if state != last:
            yield state
        last = state
        time.sleep(0 if state.over else _POLL_S)


def _state(
    daemon_set: Json, pods: Sequence[Json], wave: Sequence[str], place: tuple[int, int]
) -> Wave:
    status = daemon_set.get("status", {})
    known = status.get("observedGeneration", 0) >= daemon_set["metadata"].get("generation", 1)
    num_nodes = status.get("desiredNumberScheduled", 0) if known else 0
    failed: dict[str, str] = {}
    settled = 0
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses") or []:
            image = wave[int(container["name"].rpartition("-")[2])]
            problem = image_problem(container.get("state") or {})
            if problem:
                failed[image] = problem
            settled += bool(problem or container.get("imageID"))
    return Wave(*place, settled, num_nodes * len(wave), failed)


def _daemon_set(name: str, wave: Sequence[str], options: KubernetesOptions, owner: Json) -> Json:
    labels = {f"{PREFIX}/prepull": name}
    tiny = {"cpu": "1m", "memory": "16Mi"}
    idle: Json = {
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", "exec tail -f /dev/null"],
        "resources": {"requests": tiny, "limits": {**tiny, "cpu": "100m"}},
        "securityContext": {
            "runAsUser": 1000,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "nodeSelector": dict(options.node_selector),
        "tolerations": [dict(toleration) for toleration in options.tolerations],
        "containers": [{**idle, "name": f"image-{n}", "image": i} for n, i in enumerate(wave)],
    }
    if options.pull_secret:
        pod["imagePullSecrets"] = [{"name": options.pull_secret}]
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.prepull", description="Pull images onto every node of a cluster."
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument(
        "--wave", type=int, default=4, help="images at a time (default: %(default)s)"
    )
    parser.add_argument("--timeout-s", type=float, default=1800.0, help="of one wave")
    parser.add_argument("--kubeconfig", default="")
    parser.add_argument("--namespace", default=KubernetesOptions.namespace)
    parser.add_argument("--pull-secret", default="")
    args = parser.parse_args(argv)
    options = KubernetesOptions(
        kubeconfig=args.kubeconfig, namespace=args.namespace, pull_secret=args.pull_secret
    )

    def show(wave: Wave) -> None:
        print(
            f"wave {wave.number}/{wave.num_waves}: {wave.pulled}/{wave.wanted} pulled", flush=True
        )

    try:
        failed = prepull(
            Api(options),
            args.images,
            options,
            wave_size=args.wave,
            timeout_s=args.timeout_s,
            report=show,
        )
    except (ApiError, SandboxUnavailable) as error:
        print(f"prepull: {error}", file=sys.stderr)
        return 2
    for image, problem in failed.items():
        print(f"prepull: {image}: {problem}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    # As an exception, so that what is on the cluster is removed first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
