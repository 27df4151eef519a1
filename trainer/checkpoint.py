"""A run's state on disk: model, optimizer, random states, task cursor and policy version, whole or not at all.

`checkpoints/step_N/` appears by a rename when everything in it is written, and the oldest are removed afterwards, so a crash
at any moment leaves the last complete one. `model/` inside is an ordinary transformers folder.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from pickle import PickleError
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trainer.curriculum import Visits
from trainer.policy import Policy

FOLDER = "checkpoints"
STATE = "state.json"
TORN = (
    OSError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    PickleError,
    SafetensorError,
)
"""What reading a cut or overwritten file raises: torch and pickle trip wherever the bytes lead them."""


class Progress(NamedTuple):
    """Where a run stands after a step."""

    step: int = 0
    policy_version: int = 0
    cursor: int = 0
    """Positions of the passes over the training tasks that are used up."""
    compared: bool = False
    """The untrained policy has had its evaluation, which later ones are compared with."""
    history: Mapping[str, Visits] = MappingProxyType({})
    """What the curriculum remembers of each task."""

    def as_json(self) -> str:
        return json.dumps(self._asdict() | {"history": dict(self.history)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        told = json.loads(text)
        visits = told.pop("history", {}).items()
        return cls(
            **told, history={task: Visits(last, tuple(rates)) for task, (last, rates) in visits}
        )


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; names the path and the remedy."""


def save(
    run_dir: Path,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    tokenizer: Any,
    keep: int,
) -> Path:
    """Write `checkpoints/step_N` and keep the newest `keep`. Raises CheckpointError (disk full, no right to write)."""
    root = run_dir / FOLDER
    final = root / f"step_{progress.step}"
    unfinished = root / f".step_{progress.step}.tmp"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / "model").mkdir(parents=True)
        _save_model(policy, tokenizer, unfinished / "model")
        torch.save(optimizer.state_dict(), unfinished / "optimizer.pt")
        torch.save(torch.get_rng_state(), unfinished / "rng.pt")
        (unfinished / STATE).write_text(progress.as_json())
        shutil.rmtree(final, ignore_errors=True)
        unfinished.rename(final)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise CheckpointError(
            f"{final}: not saved ({error}); free disk space or fix the folder's rights"
        ) from error
    for old in list_steps(run_dir)[:-keep]:
        shutil.rmtree(root / f"step_{old}", ignore_errors=True)
    return final


def _save_model(policy: Policy, tokenizer: Any, folder: Path) -> None:
    policy.model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    state = {k: v.detach().contiguous() for k, v in policy.model.state_dict().items()}
    if policy.model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def list_steps(run_dir: Path) -> list[int]:
    """Steps with a complete checkpoint, ascending."""
    folders = (run_dir / FOLDER).glob(f"step_*/{STATE}")
    return sorted(int(path.parent.name.removeprefix("step_")) for path in folders)


def load(run_dir: Path, step: int, policy: Policy, optimizer: torch.optim.Optimizer) -> Progress:
    """Put the checkpoint of `step` into policy and optimizer. Raises CheckpointError."""
    folder = run_dir / FOLDER / f"step_{step}"
    try:
        state = load_file(folder / "model" / "model.safetensors")
        optimizer_state = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
        rng = torch.load(folder / "rng.pt", weights_only=True)
        progress = Progress.from_json((folder / STATE).read_text())
    except TORN as error:
        raise CheckpointError(
            f"{folder}: not readable ({error!r}); remove it to resume from the one before"
        ) from error
    tied = {"lm_head.weight"} if policy.model.config.tie_word_embeddings else set()
    try:
        found = policy.model.load_state_dict(state, strict=False)
        if unfit := sorted({*found.missing_keys, *found.unexpected_keys} - tied):
            raise ValueError(f"missing or unknown weights: {', '.join(unfit[:3])}")
        optimizer.load_state_dict(optimizer_state)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: not of the configured model ({error}); put the config back or start a new run"
        ) from error
    torch.set_rng_state(rng)
    return progress


def size_mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
