"""Base commits made once for each repository and kept: making one takes a sandbox of its own.

Shared by the backends; each says how it makes one. What a base is, is `sandbox.snapshot`.
"""

import hashlib
import threading
from collections.abc import Callable

from sandbox.base import SandboxSpec
from sandbox.snapshot import Base

_MAX_BASES = 256


class Bases:
    """Bases by image and files; thread-safe: two threads that ask for the same one make it once."""

    def __init__(self, build: Callable[[SandboxSpec], Base]) -> None:
        self._build = build
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}
        self._known: dict[str, Base] = {}

    def of(self, spec: SandboxSpec) -> Base:
        """The base of `spec`. Raises what making it raises."""
        key = _key(spec)
        with self._lock:
            busy = self._busy.setdefault(key, threading.Lock())
        with busy:
            if key not in self._known:
                self._keep(key, self._build(spec))
            return self._known[key]

    def _keep(self, key: str, base: Base) -> None:
        with self._lock:
            while len(self._known) >= _MAX_BASES:
                oldest = next(iter(self._known))
                del self._known[oldest]
                self._busy.pop(oldest, None)
            self._known[key] = base


def _key(spec: SandboxSpec) -> str:
    """Equal for specifications with the same base commit."""
    own = (spec.docker_image, spec.workdir, spec.hidden, spec.setup_patch, spec.base_commit)
    made_of = hashlib.sha256(repr(own).encode())
    for name, data in sorted(spec.files.items()):
        made_of.update(repr((name, len(data))).encode())
        made_of.update(data)
    return made_of.hexdigest()
