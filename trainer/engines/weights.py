"""New weights from the trainer to the engine: a folder of safetensors on memory-backed disk, swapped by name.

The engine is handed a finished folder; the one before it is removed once the engine has let go of it. The folder above them
is locked while its trainer lives, so what a killed trainer left is told from what another one uses, and removed. `start_sync`
chooses between this and vLLM's NCCL transfer between GPUs (`trainer.engines.nccl_sync`).
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from safetensors.torch import save_file

from trainer.engines.generate import Engine
from trainer.model.policy import Policy, engine_state

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "deepswe-weights-"


@dataclass(frozen=True)
class GatherWeights:
    """The lead's order to join in `trainer.model.policy.engine_state`."""

    dtype: torch.dtype


class FileSync:
    def __init__(
        self,
        policy: Policy,
        engine: Engine,
        dtype: torch.dtype,
        *,
        owner: str = "",
        base: Path | None = None,
    ) -> None:
        """`dtype` is the engine's; `owner` stands in the folder's name; `base` holds the folder, memory-backed disk unless
        told otherwise.
        """
        self._policy, self._engine, self._dtype = policy, engine, dtype
        base = base or (SHARED_MEMORY if SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir()))
        remove_abandoned(base)
        self._root, self._lock = _locked_folder(base, owner)
        self._current: Path | None = None

    def push(self, policy_version: int) -> None:
        """Give the engine the policy's weights under this version. Raises EngineUnavailable naming it."""
        folder = self._root / f"version_{policy_version}"
        folder.mkdir(parents=True, exist_ok=True)
        self._policy.world.order(GatherWeights(self._dtype))
        save_file(engine_state(self._policy, self._dtype), folder / "model.safetensors")
        self._engine.load_weights(folder, policy_version)
        if self._current is not None and self._current != folder:
            shutil.rmtree(self._current, ignore_errors=True)
        self._current = folder

    def renew(self, policy_version: int) -> None:
        """An engine that is started again reads the last folder by itself."""

    def close(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        os.close(self._lock)


class WeightSync(Protocol):
    """How the policy's weights reach the engine."""

    def push(self, policy_version: int) -> None:
        """Give the engine the policy's weights under this version. Raises EngineUnavailable naming it."""
        ...

    def renew(self, policy_version: int) -> None:
        """See to an engine that was started again and cannot get the weights by itself; cheap where there is none."""
        ...

    def close(self) -> None: ...


def start_sync(
    kind: Literal["files", "nccl"],
    policy: Policy,
    engine: Engine,
    dtype: torch.dtype,
    *,
    owner: str = "",
) -> WeightSync:
    """`kind` as `engine.weight_sync` has it; `owner` for people who look at what lies on memory-backed disk."""
    if kind == "nccl":
        from trainer.engines.nccl_sync import NcclSync

        return NcclSync(policy, engine, dtype)
    return FileSync(policy, engine, dtype, owner=owner)


def _locked_folder(base: Path, owner: str) -> tuple[Path, int]:
    """A new one, and its lock's descriptor. Until it is locked, another trainer may take it for abandoned and remove it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{owner}-", dir=base))
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_nlink:
                return folder, lock
            os.close(lock)


def remove_abandoned(base: Path) -> list[Path]:
    """Remove, and return, the weight folders in `base` whose trainer is dead. Those of other users are left alone."""
    removed = []
    for folder in base.glob(f"{PREFIX}*"):
        with suppress(PermissionError, FileNotFoundError, BlockingIOError):
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
            finally:
                os.close(lock)
    return removed
