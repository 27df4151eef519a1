"""A sandbox's repository by its own `exec`: the base commit, the working tree, the patch against it.

For backends whose files are reached only through commands (an engine's containers, a cluster's pods). Which scripts
run is `sandbox.snapshot`; where the sandbox lives is its backend's affair.
"""

import hashlib
import secrets
import threading
from collections.abc import Callable, Sequence

from sandbox import snapshot
from sandbox.base import Sandbox, SandboxSpec
from sandbox.errors import (
    OUTCOME_OF_END,
    End,
    Outcome,
    SandboxDestroyed,
    SandboxGone,
    SandboxUnavailable,
)
from sandbox.files import said

_TIMEOUT_S = 60.0
_MAX_TREE_BYTES = 1 << 30


class Bases:
    """The base of each set of files, made once in a sandbox of its own; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        self._made: dict[str, snapshot.Base] = {}

    def of(self, spec: SandboxSpec, create: Callable[[], Sandbox]) -> snapshot.Base:
        """The base of `spec.files`; `create` gives an empty sandbox to make it in. Raises SandboxUnavailable."""
        key = hashlib.sha256(
            repr((spec.docker_image, sorted(spec.files.items()))).encode()
        ).hexdigest()
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            if key not in self._made:
                self._made[key] = self._make(spec, create)
            return self._made[key]

    def _make(self, spec: SandboxSpec, create: Callable[[], Sandbox]) -> snapshot.Base:
        blank = create()
        try:
            unpack(blank, snapshot.pack(spec.files))
            run_git(blank, ["sh", "-c", snapshot.BASE_SCRIPT])
            return snapshot.Base(
                testbed=run_git(blank, ["tar", "-cf", "-", "--sort=name", "."]),
                git=run_git(blank, ["tar", "-cf", "-", "--sort=name", "-C", ".git", "."]),
            )
        finally:
            blank.close()


def unpack(sandbox: Sandbox, archive: bytes) -> None:
    """Lay a tar archive into the working tree, before any agent. Raises SandboxUnavailable."""
    result = sandbox.exec(
        ["tar", "-xf", "-", "--no-same-owner"], stdin=archive, timeout_s=_TIMEOUT_S
    )
    if not result.ok:
        raise SandboxUnavailable(
            f"sandbox files: {said(result)}: is disk_mib large enough for the repository?"
        )


def run_git(sandbox: Sandbox, argv: Sequence[str]) -> bytes:
    """Run a trusted command while the base is made. Raises SandboxUnavailable."""
    result = sandbox.exec(
        argv, env=snapshot.GIT_ENV, timeout_s=_TIMEOUT_S, max_output_bytes=_MAX_TREE_BYTES
    )
    if not result.ok:
        raise SandboxUnavailable(
            f"base commit: {' '.join(argv[:2])}: {said(result)}: does the image hold git?"
        )
    return result.stdout


def diff(sandbox: Sandbox, workdir: str, base: snapshot.Base) -> bytes:
    """A git patch of `workdir` against `base`. Raises SandboxDestroyed if none of a sane size can be made, SandboxGone."""
    scratch = f"/tmp/diff-{secrets.token_hex(8)}"
    result = sandbox.exec(
        ["sh", "-c", snapshot.DIFF_SCRIPT, "sh", scratch, workdir],
        stdin=base.git,
        env=snapshot.GIT_ENV,
        timeout_s=_TIMEOUT_S,
        max_output_bytes=snapshot.MAX_PATCH_BYTES,
    )
    if OUTCOME_OF_END[result.end] is Outcome.INFRA:
        raise SandboxGone(f"no patch of {workdir}: the sandbox ended under git ({result.end})")
    sandbox.exec(["rm", "-rf", scratch], timeout_s=_TIMEOUT_S)
    if result.end is End.OUTPUT_LIMIT:
        raise SandboxDestroyed(
            f"patch larger than {snapshot.MAX_PATCH_BYTES >> 20} MiB: no fix is that large"
        )
    if not result.ok:
        raise SandboxDestroyed(f"no patch of {workdir}: {said(result)}")
    return result.stdout
