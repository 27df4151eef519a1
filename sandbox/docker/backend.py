"""The Docker backend: one hardened container a sandbox, over PyPI's `docker`.

Makes, counts and removes containers. How one is isolated is `options`, how it is used and how its failures are told apart
`sandbox`, how a command's streams are read `exec`, what the engine tells by itself `events`. The image must hold git, tar, and
what the task's tests need; tasks that bring their own files need pytest on its python3's path: `python -m sandbox.images` makes
the starter's. Our tools are brought in.
"""

import os
import secrets
import threading
from functools import partial
from typing import Any

from docker.errors import APIError, DockerException, ImageNotFound

from sandbox import snapshot
from sandbox.available import docker_address
from sandbox.base import ReapReport, Recorded, SandboxSpec
from sandbox.bases import Bases
from sandbox.docker.api import LOST, Engine
from sandbox.docker.events import EngineEvents
from sandbox.docker.options import container_options
from sandbox.docker.sandbox import DockerSandbox
from sandbox.errors import SandboxUnavailable
from sandbox.image_base import container_base
from sandbox.labels import LABEL, abandoned, lease_of, recorded

_API_TIMEOUT_S = 30
_CONNECTIONS = 64
"""Kept open between calls; more are opened at need."""


class DockerBackend:
    """Makes sandboxes on the engine at `base_url`, by default the one at DOCKER_HOST or the system's; thread-safe."""

    name = "docker"

    def __init__(self, *, base_url: str = "") -> None:
        self.cores = os.cpu_count() or 1
        self._base_url = base_url or docker_address(os.environ)
        self._lock = threading.Lock()
        self._known: Engine | None = None
        self._bases = Bases(partial(container_base, create=self._create))
        self._events = EngineEvents(self._base_url)

    def create(self, spec: SandboxSpec) -> DockerSandbox:
        """A container with `spec.files`, or the image's own repository, as its base commit. Raises SandboxUnavailable."""
        return self._create(spec, self._bases.of(spec))

    def hidden_files(self, spec: SandboxSpec) -> bytes:
        """See `Backend.hidden_files`. Raises SandboxUnavailable."""
        return self._bases.of(spec).hidden

    def _create(self, spec: SandboxSpec, base: snapshot.Base) -> DockerSandbox:
        client = self._client()
        self._events.start()
        sandbox_id = secrets.token_hex(8)
        try:
            container = client.containers.create(
                spec.docker_image, **container_options(spec, sandbox_id, base)
            )
        except ImageNotFound as error:
            raise SandboxUnavailable(
                f"docker_image {spec.docker_image!r}: not on this engine: "
                "pull it, or python -m sandbox.images"
            ) from error
        except LOST as error:
            raise _no_container(spec, error) from error
        sandbox = DockerSandbox(sandbox_id, container, spec, base, self._events)
        try:
            sandbox.start()
        except LOST as error:
            sandbox.close()
            raise _no_container(spec, error) from error
        except BaseException:
            sandbox.close()
            raise
        return sandbox

    def _client(self) -> Engine:
        with self._lock:
            if self._known is None:
                try:
                    self._known = Engine(
                        base_url=self._base_url, timeout=_API_TIMEOUT_S, max_pool_size=_CONNECTIONS
                    )
                except DockerException as error:
                    raise SandboxUnavailable(
                        f"docker backend: no engine answers at {self._base_url}: start dockerd"
                    ) from error
            return self._known

    def reap(self, *, run: str | None = None) -> ReapReport:
        """Remove containers whose lease has run out or whose holder is dead; with `run`, all of that
        run's. Raises SandboxUnavailable if no engine answers.
        """
        api, found = self._client().api, self._containers()
        removed, errors = [], []
        for row in found:
            if not abandoned(row["Labels"], run=run, expires=_lease(row)):
                continue
            try:
                api.remove_container(row["Id"], force=True, v=True)
            except LOST as error:
                if not isinstance(error, APIError) or error.status_code not in _REMOVED:
                    errors.append(f"sandbox {row['Labels'][LABEL]}: {error}")
                    continue
            removed.append(row["Labels"][LABEL])
        return ReapReport(examined=len(found), removed=tuple(removed), errors=tuple(errors))

    def recorded(self) -> tuple[Recorded, ...]:
        """See `Backend.recorded`. Raises SandboxUnavailable."""
        return tuple(recorded(row["Labels"], expires=_lease(row)) for row in self._containers())

    def _containers(self) -> list[dict[str, Any]]:
        """Every container of ours, as the engine lists them. Raises SandboxUnavailable."""
        api = self._client().api
        try:
            return list(api.containers(all=True, filters={"label": LABEL}))
        except LOST as error:
            raise SandboxUnavailable(f"docker backend: {self._base_url}: {error}") from error

    def close(self) -> None:
        """Let go of the engine; containers stay until closed or reaped."""
        self._events.close()
        if self._known is not None:
            self._known.close()


_REMOVED = (404, 409)
"""The engine's answer when somebody else has removed a container, or is about to."""


def _lease(row: dict[str, Any]) -> float | None:
    return next(filter(None, map(lease_of, row["Names"] or ())), None)


def _no_container(spec: SandboxSpec, error: Any) -> SandboxUnavailable:
    return SandboxUnavailable(f"docker_image {spec.docker_image!r}: no container: {error}")
