"""One watch for all pods of one backend: what the cluster says of each, without asking for each.

Follows one label selector from a list's resourceVersion, resumes where a connection ended, and lists again when the
server has forgotten that version (410). It decides nothing about rollouts: that is `sandbox.kubernetes.backend`.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from sandbox.kubernetes.api import Api, ApiError, Json
from sandbox.kubernetes.status import PodStatus, read_status

log = logging.getLogger(__name__)

_PAUSE_S = 0.5
"""Between two connections, so that a server that refuses is not flooded."""
_WATCH_S = 240
"""After which the server ends a watch; it is then resumed."""
_GONE = 410


class _Expired(Exception):
    """The server no longer knows the version we wanted to go on from."""


class _Followed:
    """One pod, and the waiters for it: hundreds may wait at once, and a word about one pod wakes its own alone."""

    def __init__(self, lock: threading.Lock) -> None:
        self.changed = threading.Condition(lock)
        self.status: PodStatus | None = None

    def become(self, status: PodStatus) -> None:
        self.status = status
        self.changed.notify_all()


class PodWatch:
    """The latest status of every pod that matches `selector`; thread-safe. Starts its thread on first use."""

    def __init__(self, api: Api, selector: str) -> None:
        self._api, self._selector = api, selector
        self._lock = threading.Lock()
        self._pods: dict[str, _Followed] = {}
        self._thread: threading.Thread | None = None
        self._closed = False
        self.num_connections = 0

    def expect(self, name: str) -> None:
        """Keep the status of the pod of this name from now on. Call it before the pod is created."""
        with self._lock:
            self._pods[name] = _Followed(self._lock)
            if self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="pod-watch", daemon=True)
                self._thread.start()

    def wait_for(
        self, name: str, accept: Callable[[PodStatus], bool], timeout_s: float
    ) -> PodStatus | None:
        """The pod's status once `accept` takes it, or its last one when the time is over; None of a forgotten one."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            while pod := self._pods.get(name):
                left = deadline - time.monotonic()
                if left <= 0 or (pod.status is not None and accept(pod.status)):
                    return pod.status
                pod.changed.wait(left)
        return None

    def removed(self, name: str) -> bool:
        """Whether the cluster has told that it is gone, or on its way out."""
        with self._lock:
            pod = self._pods.get(name)
            return pod is not None and pod.status is not None and pod.status.removed

    def forget(self, name: str) -> None:
        """Of a pod that is of no interest any more."""
        with self._lock:
            if pod := self._pods.pop(name, None):
                pod.changed.notify_all()

    def close(self) -> None:
        """Stop following; the thread ends with its connection."""
        self._closed = True

    def _follow(self) -> None:
        version = ""
        while not self._closed:
            try:
                version = version or self._list()
                version = self._watch(version)
            except _Expired:
                version = ""
            except ApiError as error:
                log.warning("watch of pods: %s; trying again", error)
                time.sleep(_PAUSE_S)

    def _list(self) -> str:
        """All pods as they are now; those missing have been deleted meanwhile."""
        found = self._api.call(
            "GET", self._api.path("pods"), query={"labelSelector": self._selector}
        )
        present = {pod["metadata"]["name"]: read_status(pod) for pod in found["items"]}
        with self._lock:
            for name, pod in self._pods.items():
                # One never seen may have been created after the list was made.
                if name in present or pod.status is not None:
                    pod.become(
                        present.get(name, PodStatus(dead="the pod was deleted", removed=True))
                    )
        return str(found["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> str:
        """Follow from `version` until the connection ends; the version to go on from."""
        query = {
            "labelSelector": self._selector,
            "resourceVersion": version,
            "timeoutSeconds": str(_WATCH_S),
        }
        self.num_connections += 1
        try:
            for event in self._api.watch(self._api.path("pods"), query):
                version = self._take(event) or version
                if self._closed:
                    break
        except ApiError as error:
            if error.status == _GONE:
                raise _Expired from error
            log.info("watch of pods ended: %s; resuming from %s", error, version)
            time.sleep(_PAUSE_S)
        return version

    def _take(self, event: Json) -> str:
        thing: dict[str, Any] = event["object"]
        if event["type"] == "ERROR":
            if thing.get("code") == _GONE:
                raise _Expired
            raise ApiError("watch of pods", int(thing.get("code", 0)), thing.get("message", ""))
        if event["type"] != "BOOKMARK":
            self._note(thing["metadata"]["name"], thing, deleted=event["type"] == "DELETED")
        return str(thing["metadata"]["resourceVersion"])

    def _note(self, name: str, pod: Json, *, deleted: bool) -> None:
        with self._lock:
            if followed := self._pods.get(name):
                followed.become(read_status(pod, deleted=deleted))
