"""A run's state on disk: model, optimizer, random states, task cursor and policy version, whole or not at all.

`checkpoints/step_N/` appears by a rename when everything in it is on the disk, and the oldest are removed afterwards, so a
crash at any moment, the machine's included, leaves the last complete one. `model/` inside is an ordinary transformers folder.
Of a run with LoRA it has the merged weights; what such a run goes on from is `adapter/`, in PEFT's format, beside the frozen
weights of `model.path`. With several ranks the lead writes and reads whole tensors, so a checkpoint knows nothing of how many
there were.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from errno import EINVAL, ENOTSUP
from pathlib import Path
from pickle import PickleError
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.model.lora import adapters, from_peft, peft_config, to_peft
from trainer.model.policy import Policy, whole_weights
from trainer.model.shards import fill, gather_state, share_out
from trainer.rollouts.curriculum import Visits

FOLDER = "checkpoints"
STATE = "state.json"
ADAPTER = "adapter"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
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


UNWRITTEN = (OSError, RuntimeError, SafetensorError)
"""What writing to a full disk raises: torch and safetensors say it in errors of their own."""


class Progress(NamedTuple):
    """Where a run stands after a step."""

    step: int = 0
    policy_version: int = 0
    cursor: int = 0
    """Positions of the passes over the training tasks that are used up."""
    compared: bool = False
    """The untrained policy has had its evaluation, which later ones are compared with."""
    evaluated: int = 0
    """The last step whose evaluation is made."""
    history: Mapping[str, Visits] = MappingProxyType({})
    """What the curriculum remembers of each task."""
    drawn: tuple[tuple[str, ...], ...] = ()
    """The task_ids drawn already for each of the next steps, where sampling runs ahead (`trainer.rollouts.staleness`)."""

    def as_json(self) -> str:
        return json.dumps(self._asdict() | {"history": dict(self.history)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        told = json.loads(text)
        # one that does not tell was saved after its evaluation
        told.setdefault("evaluated", told["step"])
        visits = told.pop("history", {}).items()
        return cls(
            **told | {"drawn": tuple(map(tuple, told.get("drawn", ())))},
            history={task: Visits(last, tuple(rates)) for task, (last, rates) in visits},
        )


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; names the path and the remedy."""


@dataclass(frozen=True)
class GatherState:
    """The lead's order to join in `whole_state`."""


@dataclass(frozen=True)
class WholeState:
    """Tensors in full, on the lead; as saved."""

    model: dict[str, Tensor]
    """Adapters merged."""
    adapter: dict[str, Tensor]
    """Empty where all weights are trained."""
    optimizer: dict[str, Any]


def whole_state(policy: Policy, optimizer: torch.optim.Optimizer) -> WholeState:
    """Collective; the followers' holds no tensors."""
    model, world = policy.model, policy.world
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    return WholeState(
        model={n: w.cpu() for n, w in whole_weights(policy, torch.float32) if world.leads},
        adapter=gather_state(trained, world) if adapters(model) else {},
        optimizer=gather_state(optimizer.state_dict(), world),
    )


def save(
    run_dir: Path,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    tokenizer: Any,
    keep: int,
) -> Path:
    """Write `checkpoints/step_N` and keep the newest `keep`. Raises CheckpointError (disk full, no right to write).

    The lead's: it has the others join in `whole_state`.
    """
    policy.world.order(GatherState())
    state = whole_state(policy, optimizer)
    root = run_dir / FOLDER
    final = root / f"step_{progress.step}"
    unfinished = root / f".step_{progress.step}.tmp"
    try:
        for left in root.glob(".step_*.tmp"):  # by a save that was killed, of whatever step
            shutil.rmtree(left, ignore_errors=True)
        (unfinished / "model").mkdir(parents=True)
        _save_model(policy, state.model, tokenizer, unfinished / "model")
        if state.adapter:
            _save_adapter(policy, state.adapter, unfinished / ADAPTER)
        torch.save(state.optimizer, unfinished / "optimizer.pt")
        torch.save(torch.get_rng_state(), unfinished / "rng.pt")
        (unfinished / STATE).write_text(progress.as_json())
        _to_disk(unfinished)
        shutil.rmtree(final, ignore_errors=True)
        unfinished.rename(final)
        _sync(root)
    except UNWRITTEN as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise CheckpointError(
            f"{final}: not saved ({error}); free disk space or fix the folder's rights"
        ) from error
    for old in list_steps(run_dir)[:-keep]:
        shutil.rmtree(root / f"step_{old}", ignore_errors=True)
    return final


def restate(run_dir: Path, progress: Progress) -> None:
    """Where a run stands with the weights of the checkpoint that it has of this step. Raises OSError."""
    state = run_dir / FOLDER / f"step_{progress.step}" / STATE
    unfinished = state.with_suffix(".tmp")
    unfinished.write_text(progress.as_json())
    _sync(unfinished)
    unfinished.rename(state)


def _to_disk(folder: Path) -> None:
    """Everything in `folder`, which a rename alone does not wait for. Raises OSError."""
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    """A folder's entries where the file system can; some that come over a network refuse."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (EINVAL, ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def _save_model(policy: Policy, whole: dict[str, Tensor], tokenizer: Any, folder: Path) -> None:
    policy.model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    state = {k: v.detach().contiguous() for k, v in whole.items()}
    if policy.model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def _save_adapter(policy: Policy, whole: dict[str, Tensor], folder: Path) -> None:
    """As PEFT has it."""
    folder.mkdir()
    told = json.dumps(peft_config(policy.model), indent=2)
    (folder / "adapter_config.json").write_text(told + "\n")
    state = {name: tensor.contiguous() for name, tensor in to_peft(whole).items()}
    save_file(state, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def list_steps(run_dir: Path) -> list[int]:
    """Steps with a complete checkpoint, ascending."""
    folders = (run_dir / FOLDER).glob(f"step_*/{STATE}")
    return sorted(int(path.parent.name.removeprefix("step_")) for path in folders)


def load(run_dir: Path, step: int, policy: Policy, optimizer: torch.optim.Optimizer) -> Progress:
    """Put the checkpoint of `step` into policy and optimizer, on every rank. Raises CheckpointError. Collective.

    Where the run stands is for the lead to know; followers get the beginning.
    """
    folder = run_dir / FOLDER / f"step_{step}"
    world = policy.world
    state = _read(folder, policy) if world.leads else None
    weights = state.model | state.adapter if state else None
    fill(policy.model, weights, world, trained_only=True)
    shares = _shares(state, policy, optimizer)
    try:
        optimizer.load_state_dict(shares)
    except (LookupError, RuntimeError, ValueError) as error:
        raise _unfit(folder, error) from error
    rng, *_ = world.gather(state.rng if state else torch.empty(0))
    torch.set_rng_state(rng)
    return state.progress if state else Progress()


@dataclass(frozen=True)
class _Read(WholeState):
    outline: dict[str, Any]
    """The optimizer's state with None for what has a parameter's shape."""
    progress: Progress
    rng: Tensor


def _read(folder: Path, policy: Policy) -> _Read:
    """What the lead finds on disk. Raises CheckpointError where it is torn, or of another model."""
    adapter = folder / ADAPTER / ADAPTER_WEIGHTS
    try:
        optimizer = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
        read = _Read(
            model=load_file(folder / "model" / "model.safetensors"),
            adapter=from_peft(load_file(adapter)) if adapter.parent.is_dir() else {},
            optimizer=optimizer,
            outline=_outline(optimizer),
            progress=Progress.from_json((folder / STATE).read_text()),
            rng=torch.load(folder / "rng.pt", weights_only=True),
        )
    except TORN as error:
        raise CheckpointError(
            f"{folder}: not readable ({error!r}); remove it to resume from the one before"
        ) from error
    ours = {name: p.shape for name, p in policy.model.named_parameters()}
    theirs = {name: tensor.shape for name, tensor in (read.model | read.adapter).items()}
    if unfit := sorted(name for name, _ in ours.items() ^ theirs.items()):
        names = ", ".join(dict.fromkeys(unfit))
        raise _unfit(folder, ValueError(f"missing, unknown or misshapen weights: {names[:200]}"))
    return read


def _unfit(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{folder}: not of the configured model ({error}); put the config back or start a new run"
    )


def _shares(
    saved: _Read | None, policy: Policy, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """The optimizer's state as this rank holds it, from the lead's whole one. Collective."""
    outline, *_ = policy.world.gather(saved.outline if saved else {})
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {}
    for index, values in outline["state"].items():
        whole = saved.optimizer["state"][index] if saved else {}
        state[index] = {
            key: share_out(whole.get(key), parameters[index]) if value is None else value
            for key, value in values.items()
        }
    return {"state": state, "param_groups": outline["param_groups"]}


def _outline(optimizer: dict[str, Any]) -> dict[str, Any]:
    return {
        "param_groups": optimizer["param_groups"],
        "state": {
            index: {key: None if value.ndim else value for key, value in values.items()}
            for index, values in optimizer["state"].items()
        },
    }


def size_mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
