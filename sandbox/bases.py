"""Base commits made once for each repository and kept: making one takes a sandbox of its own.

Shared by the backends; each says how it makes one. What a base is, is `sandbox.snapshot`.
"""

import hashlib
import threading
from collections.abc import Callable

from sandbox.base import SandboxSpec
from sandbox.snapshot import Base

_MAX_BYTES = 2 << 30
"""Of all bases together."""


class Bases:
    """Bases by image and files; thread-safe: two threads that ask for the same one make it once. The newest are kept, to
    `max_bytes` together, and the last one however large.
    """

    def __init__(
        self, build: Callable[[SandboxSpec], Base], *, max_bytes: int = _MAX_BYTES
    ) -> None:
        self._build, self._max_bytes = build, max_bytes
        self._num_bytes = 0
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}
        self._known: dict[str, Base] = {}

    def of(self, spec: SandboxSpec) -> Base:
        """The base of `spec`. Raises what making it raises."""
        key = _key(spec)
        with self._lock:
            busy = self._busy.setdefault(key, threading.Lock())
        with busy:
            base = self._known.get(key)
            if base is None:
                base = self._build(spec)
                self._keep(key, base)
            return base

    def _keep(self, key: str, base: Base) -> None:
        with self._lock:
            self._num_bytes -= _size(self._known.pop(key, None))
            self._known[key] = base
            self._num_bytes += _size(base)
            while self._num_bytes > self._max_bytes and len(self._known) > 1:
                oldest = next(iter(self._known))
                self._num_bytes -= _size(self._known.pop(oldest))
                self._busy.pop(oldest, None)


def _size(base: Base | None) -> int:
    return sum(map(len, base)) if base else 0


def _key(spec: SandboxSpec) -> str:
    """Equal for specifications with the same base commit."""
    own = (spec.docker_image, spec.workdir, spec.hidden, spec.setup_patch, spec.base_commit)
    made_of = hashlib.sha256(repr(own).encode())
    for name, data in sorted(spec.files.items()):
        made_of.update(repr((name, len(data))).encode())
        made_of.update(data)
    return made_of.hexdigest()
