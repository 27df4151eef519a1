"""The bubblewrap backend: sandboxes on one machine with no engine, from namespaces, a sized tmpfs,
seccomp and control groups.

Weaker than a container engine with a hypervisor below it: the host's kernel is shared, and
`BubblewrapBackend.weaker` says what this machine could not give beyond that. How a command runs is
`sandbox`, what `/` looks like `rootfs`, what persists `namespaces`, how a command is watched `processes`.
"""

import os
import resource
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sandbox import rootfs, snapshot, unpack
from sandbox.base import ReapReport, Recorded, SandboxSpec
from sandbox.bases import Bases
from sandbox.bubblewrap import cgroups, namespaces, records
from sandbox.bubblewrap.reap import reap_records
from sandbox.bubblewrap.sandbox import IMAGE_TESTBED, IMAGE_TESTS, BubblewrapSandbox
from sandbox.bubblewrap.seccomp import seccomp_filter
from sandbox.errors import SandboxError, SandboxUnavailable
from sandbox.image_base import files_base, image_base

_OWN_PIDS = 4
"""Processes of bwrap itself that count against the group."""
_DESCRIPTORS = 1 << 16
"""Wanted of this process: a sandbox at rest holds three, a running command nine more."""


@contextmanager
def _affordable() -> Iterator[None]:
    """What this machine refuses us (a process, a descriptor, room for a record) is a sandbox that cannot be had."""
    try:
        yield
    except SandboxError:
        raise
    except OSError as error:
        raise SandboxUnavailable(
            f"bubblewrap backend: {error}: hold fewer sandboxes at once, "
            "or raise what ran out (ulimit -n, ulimit -u, room on the disk)"
        ) from error


def _allow_descriptors() -> None:
    """Many sandboxes need more descriptors than a login's usual 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class BubblewrapBackend:
    """Makes sandboxes by bwrap; thread-safe. A `docker_image` is the composed root, or what is unpacked below `unpacked`
    (see `sandbox.unpack`), or a folder that `images` names.
    """

    name = "bubblewrap"

    def __init__(
        self,
        *,
        python_cache: Path | str = rootfs.PYTHON_CACHE,
        state: Path | str = records.STATE,
        images: Mapping[str, Path] | None = None,
        unpacked: Path | str = unpack.IMAGES,
    ) -> None:
        _allow_descriptors()
        self.cores = os.cpu_count() or 1
        self._python_cache, self._state = Path(python_cache), Path(state)
        self._images, self._unpacked = dict(images or {}), Path(unpacked)
        self._lock = threading.Lock()
        self._stages: dict[Path | None, namespaces.Stage] = {}
        self._bases = Bases(self._build_base)
        self._open: dict[str, BubblewrapSandbox] = {}
        self._hierarchy = cgroups.find_hierarchy()
        self._seccomp = seccomp_filter()
        self.weaker = self._weaknesses()
        """What this machine does not give, one sentence each; empty when the design holds in full.
        """

    def _weaknesses(self) -> tuple[str, ...]:
        found = []
        if self._hierarchy is None:
            found.append("no control groups: memory is limited per process, not per sandbox")
        if not self._seccomp:
            found.append(f"no seccomp filter for {os.uname().machine}")
        return tuple(found)

    def create(self, spec: SandboxSpec) -> BubblewrapSandbox:
        """A sandbox with `spec.files`, or the image's own repository, as its base commit. Raises SandboxUnavailable."""
        with _affordable():
            stage, image = self._staged(self._found(spec.docker_image))
            return self._create(stage, spec, image, self._bases.of(spec))

    def hidden_files(self, spec: SandboxSpec) -> bytes:
        """See `Backend.hidden_files`. Raises SandboxUnavailable."""
        with _affordable():
            return self._bases.of(spec).hidden

    def _create(
        self,
        stage: namespaces.Stage,
        spec: SandboxSpec,
        image: rootfs.Image | None,
        base: snapshot.Base,
    ) -> BubblewrapSandbox:
        sandbox_id = secrets.token_hex(8)
        # Written down before anything is made: a kill at any moment leaves nothing unknown.
        record = records.HeldRecord(self._state, self._record(sandbox_id, spec))
        group = None
        try:
            group = self._group(sandbox_id, spec)
            disk = namespaces.make_disk(
                stage, sandbox_id, disk_mib=spec.disk_mib, testbed=base.testbed
            )
        except BaseException:
            if group is not None:
                group.remove()
            record.remove()
            raise
        sandbox = BubblewrapSandbox(
            self.forget, sandbox_id, spec, stage, image, base, disk, group, record, self._seccomp
        )
        with self._lock:
            self._open[sandbox_id] = sandbox
        return sandbox

    def _record(self, sandbox_id: str, spec: SandboxSpec) -> records.Record:
        planned = self._hierarchy.group(sandbox_id) if self._hierarchy else None
        folders = {c: str(f) for c, f in planned.folders.items()} if planned else {}
        return records.Record(
            id=sandbox_id,
            labels=spec.labels,
            group_version=planned.version if planned else 0,
            group_folders=folders,
        )

    def _group(self, sandbox_id: str, spec: SandboxSpec) -> cgroups.Group | None:
        if self._hierarchy is None:
            return None
        # The disk is memory, charged to who writes it: a full one must leave room to run.
        memory_mib = spec.memory_mib + spec.disk_mib
        try:
            return self._hierarchy.create(
                sandbox_id, memory_mib=memory_mib, pids=spec.pids + _OWN_PIDS, cpus=spec.cpus
            )
        except OSError as error:
            raise SandboxUnavailable(f"control group of sandbox {sandbox_id}: {error}") from error

    def _found(self, name: str) -> Path | None:
        """The folder of the image called `name`; None for the composed root."""
        if name == rootfs.COMPOSED_IMAGE:
            return None
        folder = self._images.get(name) or unpack.find(name, self._unpacked)
        if folder is None:
            known = ", ".join([rootfs.COMPOSED_IMAGE, *self._images])
            raise SandboxUnavailable(
                f"docker_image {name!r}: no unpacked copy for bubblewrap below {self._unpacked} "
                f"(without one there are: {known}): python -m sandbox.unpack {name}, or use docker"
            )
        return folder

    def _staged(self, found: Path | None) -> tuple[namespaces.Stage, rootfs.Image | None]:
        """The stage for an image, made when it is first asked for, and the image in it."""
        host = found if found and unpack.is_whole(found) else None
        with self._lock:
            if host not in self._stages:
                self._stages[host] = namespaces.make_stage(
                    rootfs.python_prefix(self._python_cache), {"": host} if host else {}
                )
            stage = self._stages[host]
        return stage, rootfs.Image(host, f"{stage.folder}/images/0") if host else None

    def _build_base(self, spec: SandboxSpec) -> snapshot.Base:
        found = self._found(spec.docker_image)
        stage, image = self._staged(found)
        partial = found is not None and image is None and not spec.files
        first = unpack.pack_repository(found) if partial and found else snapshot.pack(spec.files)
        blank = self._create(stage, spec, image, snapshot.Base(first, b""))
        try:
            if spec.files or found is None:
                return files_base(blank)
            testbed = "." if partial else IMAGE_TESTBED
            return image_base(blank, spec, testbed=testbed, tests=IMAGE_TESTS)
        finally:
            blank.close()

    def forget(self, sandbox_id: str) -> None:
        """The sandbox has closed."""
        with self._lock:
            self._open.pop(sandbox_id, None)

    def reap(self, *, run: str | None = None) -> ReapReport:
        """Remove sandboxes that are expired or whose holder is dead; with `run`, all of that run's.

        One that a living process of another backend holds loses its record and its processes; its
        memory goes when that process closes it.
        """
        return reap_records(self._state, run=run, held=dict(self._open))

    def recorded(self) -> tuple[Recorded, ...]:
        """See `Backend.recorded`."""
        return tuple(records.recorded(self._state))

    def close(self) -> None:
        """Close every sandbox and the shared stage."""
        for sandbox in list(self._open.values()):
            sandbox.close()
        with self._lock:
            for stage in self._stages.values():
                stage.close()
            self._stages.clear()
