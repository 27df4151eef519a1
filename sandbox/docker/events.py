"""What the engine tells of our containers by itself: out-of-memory kills and deaths, by one subscription a backend.

Both reach us from the engine and not from inside a container, so the agent cannot forge them. What they mean for a
command is decided in `sandbox.docker.sandbox`.
"""

import logging
import threading
import time
from contextlib import closing, suppress
from typing import Any

import docker
from docker.errors import DockerException

from sandbox.labels import LABEL

log = logging.getLogger(__name__)

_RECONNECT_S = 0.5


class EngineEvents:
    """Counts by container id; thread-safe. The subscription is made again when the engine comes back."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._changed = threading.Condition()
        self._ooms: dict[str, int] = {}
        self._dead: set[str] = set()
        self._closed = threading.Event()
        self._stream: Any = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Subscribe, once; what happens from now on is told, if only a moment later."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._listen, args=(time.time(),), name="docker-events", daemon=True
                )
                self._thread.start()

    def watch(self, container: str) -> None:
        """Remember what happens to this container until `forget`."""
        with self._changed:
            self._ooms[container] = 0

    def forget(self, container: str) -> None:
        with self._changed:
            self._ooms.pop(container, None)
            self._dead.discard(container)

    def ooms(self, container: str) -> int:
        """How many out-of-memory kills the engine has told of."""
        with self._changed:
            return self._ooms.get(container, 0)

    def died(self, container: str) -> bool:
        """Whether the engine has told of the container's death."""
        with self._changed:
            return container in self._dead

    def await_oom(self, container: str, seen: int, timeout_s: float) -> bool:
        """Whether the count has passed `seen`, now or within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ooms.get(container, 0) > seen, timeout_s)

    def close(self) -> None:
        """End the subscription. Safe to call twice."""
        self._closed.set()
        if self._stream is not None:
            with suppress(DockerException, OSError, AttributeError):
                self._stream.close()
        if self._thread is not None:
            self._thread.join(timeout=2 * _RECONNECT_S)

    def _listen(self, since: float) -> None:
        while not self._closed.is_set():
            try:
                since = self._follow(since)
            except (DockerException, OSError, ValueError) as error:
                log.info("docker events at %s: %s; subscribing again", self._base_url, error)
            self._closed.wait(_RECONNECT_S)

    def _follow(self, since: float) -> float:
        """Take events until the stream ends; the time of the last one."""
        client = docker.APIClient(base_url=self._base_url, version="auto")
        filters = {"type": "container", "event": ["oom", "die"], "label": LABEL}
        with closing(client):
            self._stream = client.events(since=f"{since:.6f}", filters=filters, decode=True)
            for event in self._stream:
                try:
                    self._take(event["Actor"]["ID"], event["Action"])
                    since = event["timeNano"] / 1e9 + 1e-6
                except (KeyError, TypeError):
                    log.warning("docker events at %s: passed over: %r", self._base_url, event)
        return since

    def _take(self, container: str, action: str) -> None:
        with self._changed:
            if container not in self._ooms:
                return
            if action == "die":
                self._dead.add(container)
            else:
                self._ooms[container] += 1
            self._changed.notify_all()
