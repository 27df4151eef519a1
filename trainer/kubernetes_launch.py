"""`python -m trainer.kubernetes_launch --template POD.yaml RUN_DIR`: train on a cluster, one pod a node (`hardware.nodes`).

It stands in for `python -m trainer` where a worker starts its runs (TRAINER_COMMAND), and ends as that would: 0 finished or
stopped, by SIGKILL where a pod was lost or ended by the cluster, so that it is started again and the run goes on from its
checkpoint. SIGTERM stops the run: each pod has its own grace to save. RUN_DIR lies on a volume that this machine and the pods
have at the same path.

Pods of an attempt before are removed first, and no pod outlives this process but where it is killed itself.
"""

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from sandbox.errors import SandboxError
from sandbox.kubernetes.api import Api, ApiError
from sandbox.kubernetes.options import KubernetesOptions
from trainer.config import CONFIG_FILE, ConfigError, load_config
from trainer.nodes.ending import EXIT_RANK_LOST, die_by, last_word
from trainer.nodes.kubernetes_pods import CONTAINER, RUN_LABEL, Json, TrainingPods, read_template

log = logging.getLogger(__name__)

Result = TypeVar("Result")
LOOK_EVERY_S = 1.0
STOP_WITHIN_S = 0.1
START_TIMEOUT_S = 900.0
"""From their creation until all pods run, their images pulled."""
LAST_WORDS_S = 120.0
"""How long the other pods have to end by themselves once one has: a rank is never told to stop because another was lost."""
NODE_LOST_S = 120.0
"""So long after its grace a pod is on a node that does not answer; its ranks have ended for want of the others."""
AWAY_S = 600.0
"""How long making and removing pods is tried again while the API server is away; a worker may kill this process before."""
BUSY = (409, 429)
"""Statuses of a server that settles a conflict or has too much to do."""
KILLED = 128
"""Exit codes from here on are those of a signal."""


class PodsPending(RuntimeError):
    """A pod did not start in time."""


def main() -> int:
    arguments = _arguments()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run_dir = arguments.run_dir.resolve()
    trainers = [str(run_dir), *(["--run-id", arguments.run_id] if arguments.run_id else [])]
    try:
        nodes = load_config(run_dir / CONFIG_FILE).hardware.nodes
        pods = TrainingPods(
            run_dir=run_dir, template=read_template(arguments.template), num_nodes=nodes
        )
        api = Api(KubernetesOptions(namespace=pods.namespace))
        code = launch(pods, api, trainers, stop.is_set)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (PodsPending, SandboxError) as error:
        print(error, file=sys.stderr)
        return 1
    if code == EXIT_RANK_LOST:
        die_by(signal.SIGKILL)
    return code


def launch(
    pods: TrainingPods, api: Api, arguments: Sequence[str], stopping: Callable[[], bool]
) -> int:
    """Train in pods until they have ended; the exit code, EXIT_RANK_LOST where the run is to be started again.

    Raises PodsPending, ApiError.
    """
    remove(pods, api)
    said_before = last_word(pods.run_dir)
    try:
        _create(api, "services", pods.service(), stopping)
        for pod in pods.pods(arguments):
            _create(api, "pods", pod, stopping)
        log.info("%d pods in namespace %s: %s", pods.num_nodes, pods.namespace, pods.name)
        found = _until_ended(pods, api, stopping)
    finally:
        remove(pods, api)
    said = last_word(pods.run_dir)
    if said and said != said_before:
        if said.status == "stopped" and not stopping():
            log.warning(
                "stopped by the cluster, which ended a pod: it was evicted or its node drained"
            )
            return EXIT_RANK_LOST
        return 1 if said.status == "failed" else 0
    return 1 if stopping() else _verdict(found, pods.num_nodes)


def remove(pods: TrainingPods, api: Api) -> None:
    """Remove what there is of the run, and wait until none of its pods is left: each has its own grace for it."""
    query = _selected(pods)
    at_once = query | {"gracePeriodSeconds": "0"}
    _patiently(lambda: api.call("DELETE", api.path("pods"), query=query))
    overdue = time.monotonic() + pods.grace_s + NODE_LOST_S
    while found := _patiently(lambda: _found(pods, api)):
        if time.monotonic() > overdue:
            names = ", ".join(pod["metadata"]["name"] for pod in found)
            log.warning("%s: its node does not answer; removed from the cluster alone", names)
            _patiently(lambda: api.call("DELETE", api.path("pods"), query=at_once))
        time.sleep(LOOK_EVERY_S)
    try:
        _patiently(lambda: api.call("DELETE", api.path("services", pods.name)))
    except ApiError as error:
        if error.status != 404:
            raise


def _create(api: Api, kind: str, body: Json, stopping: Callable[[], bool]) -> None:
    """What is there already was made by a call whose answer was lost, for `remove` came before. Raises ApiError."""

    def create() -> None:
        try:
            api.call("POST", api.path(kind), body=body)
        except ApiError as error:
            if not error.exists:
                raise

    _patiently(create, stopping)


def _patiently(call: Callable[[], Result], stopping: Callable[[], bool] = lambda: False) -> Result:
    """Again and again while the API server is away and the run is not stopping. Raises ApiError."""
    until = time.monotonic() + AWAY_S
    while True:
        try:
            return call()
        except ApiError as error:
            if not _is_away(error) or stopping() or time.monotonic() > until:
                raise
            log.warning("%s", error)
        time.sleep(LOOK_EVERY_S)


def _is_away(error: ApiError) -> bool:
    """Whether the call was right, and may be answered later."""
    return not 0 < error.status < 500 or error.status in BUSY


def _until_ended(pods: TrainingPods, api: Api, stopping: Callable[[], bool]) -> list[Json]:
    """The pods as they ended, or as they are once the run is stopping or those that are left had time to end."""
    created, first_ended = time.monotonic(), None
    while _pause(stopping):
        try:
            found, now = _found(pods, api), time.monotonic()
        except ApiError as error:
            if not _is_away(error):
                raise
            log.warning("%s", error)  # the pods train on while the API server is away
            continue
        phases = [pod["status"]["phase"] for pod in found]
        if phases.count("Running") + phases.count("Pending") == 0:
            return found
        if "Pending" in phases and now - created > START_TIMEOUT_S:
            raise PodsPending(f"not running after {START_TIMEOUT_S:.0f} s: {_why_pending(found)}")
        if len(found) < pods.num_nodes or {"Succeeded", "Failed"} & set(phases):
            first_ended = first_ended or now
            if now - first_ended > LAST_WORDS_S:
                return found
    return []


def _pause(stopping: Callable[[], bool]) -> bool:
    """Wait for the next look; False as soon as the run is stopping."""
    until = time.monotonic() + LOOK_EVERY_S
    while not stopping() and time.monotonic() < until:
        time.sleep(STOP_WITHIN_S)
    return not stopping()


def _verdict(found: Sequence[Json], num_nodes: int) -> int:
    """The exit code of a run without a last word: that of the first node that failed by itself.

    A pod that is gone, was killed, or whose node was lost has no exit code of its own.
    """
    codes = [_exit_code(pod) for pod in found]
    for pod, code in zip(found, codes, strict=True):
        log.error("%s: %s", pod["metadata"]["name"], _last_words(pod) or f"exit code {code}")
    lost = len(found) < num_nodes or any(code >= KILLED or code < 0 for code in codes)
    failed = [code for code in codes if code not in (0, EXIT_RANK_LOST)]
    return EXIT_RANK_LOST if lost or not failed else failed[0]


def _found(pods: TrainingPods, api: Api) -> list[Json]:
    """By the number of their nodes."""
    found = api.call("GET", api.path("pods"), query=_selected(pods))["items"]
    return sorted(found, key=lambda pod: int(pod["metadata"]["name"].rpartition("-")[2]))


def _selected(pods: TrainingPods) -> dict[str, str]:
    return {"labelSelector": f"{RUN_LABEL}={pods.name}"}


def _exit_code(pod: Json) -> int:
    """-1 where the container did not come to an end."""
    for status in pod["status"].get("containerStatuses", []):
        if status["name"] == CONTAINER and "terminated" in status["state"]:
            code: int = status["state"]["terminated"]["exitCode"]
            return code
    return -1


def _last_words(pod: Json) -> str:
    told = [
        status["state"].get("terminated", {}).get("message", "")
        for status in pod["status"].get("containerStatuses", [])
    ]
    return "\n".join(filter(None, [*told, pod["status"].get("message", "")]))


def _why_pending(found: Sequence[Json]) -> str:
    """What the scheduler and the kubelet say of each pod that waits."""
    return "; ".join(
        f"{pod['metadata']['name']}: {', '.join(_obstacles(pod)) or 'no reason told'}"
        for pod in found
        if pod["status"]["phase"] == "Pending"
    )


def _obstacles(pod: Json) -> Iterator[str]:
    for condition in pod["status"].get("conditions", []):
        if condition["status"] != "True" and condition.get("message"):
            yield condition["message"]
    for status in pod["status"].get("containerStatuses", []):
        if message := status["state"].get("waiting", {}).get("message"):
            yield message


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.kubernetes_launch", description=__doc__
    )
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--run-id", help="as in python -m trainer")
    parser.add_argument(
        "--template", type=Path, required=True, help="a Pod as YAML, like deploy/training/pod.yaml"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
