"""FSDP2: each rank holds its share of every weight, gradient and moment, and gathers a layer while it is at work.

`fully_shard` (PyTorch, torch.distributed.fsdp) splits the first dimension of each parameter over the ranks. Gradients come out
averaged, so a rank's loss is multiplied by the number of ranks to make them sums (`trainer.training.update`). Alone, nothing is
sharded, and `whole` is the tensor itself.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from trainer.nodes.world import Ranks, World


def shard(root: nn.Module, layers: nn.ModuleList, dtype: torch.dtype, world: World) -> None:
    """Split the parameters under `root` in place: layer by layer, and what is outside the layers together.

    Full weights may lie on a CPU: each layer is moved to the world's device, cut, and freed before the next. Layers travel and
    compute in `dtype`, gradients are summed in float32.
    """
    assert isinstance(world, Ranks)
    precision = MixedPrecisionPolicy(
        param_dtype=None if dtype == torch.float32 else dtype, reduce_dtype=torch.float32
    )
    for layer in layers:
        fully_shard(layer, mesh=world.mesh, mp_policy=precision)
    fully_shard(root, mesh=world.mesh, mp_policy=precision, reshard_after_forward=False)


def fill(
    model: nn.Module,
    whole_state: Mapping[str, Tensor] | None,
    world: World,
    *,
    trained_only: bool = False,
) -> None:
    """Put the lead's whole weights into every rank's shards, and its buffers into every rank. Collective.

    `trained_only`: frozen weights stay as they are.
    """
    for name, parameter in model.named_parameters():
        if trained_only and not parameter.requires_grad:
            continue
        part = share_out(whole_state[name] if whole_state else None, parameter)
        with torch.no_grad():
            local(parameter).copy_(local(part))
    if world.size > 1:
        for _, buffer in model.named_buffers(remove_duplicate=False):
            dist.broadcast(buffer, 0)


def share_out(tensor: Tensor | None, like: Tensor) -> Tensor:
    """The lead's whole `tensor` in the shards of `like`; followers give None. Collective where `like` is sharded."""
    if not isinstance(like, DTensor):
        assert tensor is not None
        return tensor
    device = like.to_local().device
    given = torch.empty(like.shape, device=device) if tensor is None else tensor.to(device)
    return distribute_tensor(given, like.device_mesh, like.placements, src_data_rank=0)


def whole(tensor: Tensor) -> Tensor:
    """The full tensor, gathered from all ranks where it is sharded. Collective."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This rank's share, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gather_state(tree: Mapping[Any, Any], world: World) -> dict[Any, Any]:
    """A nested state with whole tensors, on the lead's CPU when sharded; the others' is empty of tensors. Collective."""
    gathered: dict[Any, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            gathered[key] = gather_state(value, world)
        elif isinstance(value, DTensor):
            full = whole(value)
            gathered[key] = full.cpu() if world.leads else None
        else:
            gathered[key] = value
    return gathered
