"""The Kubernetes backend: one hardened bare pod a sandbox, over PyPI's `kubernetes`.

Root keeps the pod alive and runs each command as uid 1000 (`sandbox.kubernetes.supervisor`), so the agent cannot end
its own pod. The root filesystem is read-only; what is writable is one memory-backed volume of fixed size. What the
image must hold is as for Docker, and `setpriv` of util-linux. Pods have no API token; that they have no network is
the cluster's doing, and is tried out before the first sandbox (`sandbox.kubernetes.probe`).
"""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sandbox import snapshot
from sandbox.base import (
    ReapReport,
    Recorded,
    SandboxSpec,
)
from sandbox.bases import Bases
from sandbox.errors import SandboxUnavailable
from sandbox.image_base import container_base
from sandbox.kubernetes.api import Api, ApiError
from sandbox.kubernetes.command import PodCommands
from sandbox.kubernetes.options import KubernetesOptions
from sandbox.kubernetes.pod import PREFIX, pod_body, run_name, run_object
from sandbox.kubernetes.probe import probe
from sandbox.kubernetes.reap import delete, reap_pods, recorded_pods
from sandbox.kubernetes.sandbox import KubernetesSandbox
from sandbox.kubernetes.start import start_pod
from sandbox.kubernetes.watch import PodWatch


class KubernetesBackend:
    """Makes sandboxes on one cluster; thread-safe. Options: `KubernetesOptions`."""

    name = "kubernetes"

    def __init__(self, **options: Any) -> None:
        self.options = KubernetesOptions(**options)
        self.cores = self.options.cores
        self._id = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._known: tuple[Api, PodWatch] | None = None
        self._probed = False
        self._owners: dict[str, str] = {}
        self._bases = Bases(partial(container_base, create=self._create))

    def create(self, spec: SandboxSpec) -> KubernetesSandbox:
        """A pod with `spec.files`, or the image's own repository, as its base commit. Raises SandboxUnavailable."""
        with self._answering(spec):
            self._probe_once(spec)
            return self._create(spec, self._bases.of(spec))

    def hidden_files(self, spec: SandboxSpec) -> bytes:
        """See `Backend.hidden_files`. Raises SandboxUnavailable."""
        with self._answering(spec):
            return self._bases.of(spec).hidden

    @contextmanager
    def _answering(self, spec: SandboxSpec) -> Iterator[None]:
        """What the API server refuses is a sandbox that cannot be had."""
        try:
            yield
        except ApiError as error:
            raise SandboxUnavailable(
                f"docker_image {spec.docker_image!r}: no pod in namespace "
                f"{self.options.namespace!r}: {error}"
            ) from error

    def _create(self, spec: SandboxSpec, base: snapshot.Base) -> KubernetesSandbox:
        api, watch = self._cluster()
        name = f"sandbox-{secrets.token_hex(8)}"
        owner = self._owner(spec)
        body = pod_body(name, spec, self.options, backend=self._id, owner_uid=owner, git=base.git)
        sandbox = KubernetesSandbox(name, spec, base, PodCommands(api, watch, name, self.options))
        try:
            start_pod(api, watch, body, self.options)
            sandbox.prepare()
        except BaseException:
            sandbox.close()
            raise
        return sandbox

    def _cluster(self) -> tuple[Api, PodWatch]:
        with self._lock:
            if self._known is None:
                api = Api(self.options)
                self._known = (api, PodWatch(api, f"{PREFIX}/backend={self._id}"))
            return self._known

    def _owner(self, spec: SandboxSpec) -> str:
        """The uid of the object that owns this run's pods, made when the run's first pod is."""
        api, _ = self._cluster()
        with self._lock:
            if spec.labels.run not in self._owners:
                body = run_object(spec.labels, self._id)
                made = api.call("POST", api.path("configmaps"), body=body)
                self._owners[spec.labels.run] = made["metadata"]["uid"]
            return self._owners[spec.labels.run]

    def _probe_once(self, spec: SandboxSpec) -> None:
        """Raises SandboxUnavailable when pods of this cluster reach what they must not."""
        self._owner(spec)
        api, watch = self._cluster()
        with self._lock:
            if self._probed:
                return
            owner_uid = self._owners[spec.labels.run]
            probe(api, watch, spec, self.options, backend=self._id, owner_uid=owner_uid)
            self._probed = True

    def reap(self, *, run: str | None = None) -> ReapReport:
        """Remove pods whose lease has run out or whose holder is dead; with `run`, all of that run's.

        Raises SandboxUnavailable when the API server does not answer.
        """
        try:
            api, _ = self._cluster()
            return reap_pods(api, run)
        except ApiError as error:
            raise SandboxUnavailable(f"kubernetes backend: {error}") from error

    def recorded(self) -> tuple[Recorded, ...]:
        """See `Backend.recorded`. Raises SandboxUnavailable."""
        try:
            return recorded_pods(self._cluster()[0])
        except ApiError as error:
            raise SandboxUnavailable(f"kubernetes backend: {error}") from error

    def close(self) -> None:
        """Stop watching and remove what owns the pods made here, and with it those that are left."""
        with self._lock:
            known, self._known = self._known, None
            owners, self._owners = dict(self._owners), {}
        if known is None:
            return
        api, watch = known
        watch.close()
        for run in owners:
            delete(api, "configmaps", run_name(run, self._id))
