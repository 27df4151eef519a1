"""One watch for all pods of one backend: what the cluster says of each, without asking for each.

Follows one label selector from a list's resourceVersion, resumes where a connection ended, and lists again when the
server has forgotten that version (410). It decides nothing about rollouts: that is `sandbox.kubernetes`.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from sandbox.kubernetes_api import Api, ApiError, Json
from sandbox.kubernetes_status import PodStatus, read_status

log = logging.getLogger(__name__)

_PAUSE_S = 0.5
"""Between two connections, so that a server that refuses is not flooded."""
_WATCH_S = 240
"""After which the server ends a watch; it is then resumed."""
_GONE = 410


class _Expired(Exception):
    """The server no longer knows the version we wanted to go on from."""


class PodWatch:
    """The latest status of every pod that matches `selector`; thread-safe. Starts its thread on first use."""

    def __init__(self, api: Api, selector: str) -> None:
        self._api, self._selector = api, selector
        self._changed = threading.Condition()
        self._pods: dict[str, PodStatus | None] = {}
        self._thread: threading.Thread | None = None
        self._closed = False
        self.num_connections = 0

    def expect(self, name: str) -> None:
        """Keep the status of the pod of this name from now on. Call it before the pod is created."""
        with self._changed:
            self._pods[name] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="pod-watch", daemon=True)
                self._thread.start()

    def wait_for(
        self, name: str, accept: Callable[[PodStatus], bool], timeout_s: float
    ) -> PodStatus | None:
        """The pod's status once `accept` takes it, or its last one when the time is over; None of a forgotten one."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while name in self._pods:
                status = self._pods[name]
                left = deadline - time.monotonic()
                if left <= 0 or (status is not None and accept(status)):
                    return status
                self._changed.wait(left)
        return None

    def forget(self, name: str) -> None:
        """Of a pod that is of no interest any more."""
        with self._changed:
            self._pods.pop(name, None)
            self._changed.notify_all()

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
        with self._changed:
            for name, known in self._pods.items():
                # One never seen may have been created after the list was made.
                if name in present or known is not None:
                    self._pods[name] = present.get(name, PodStatus(dead="the pod was deleted"))
            self._changed.notify_all()
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
        with self._changed:
            if name in self._pods:
                self._pods[name] = read_status(pod, deleted=deleted)
                self._changed.notify_all()
