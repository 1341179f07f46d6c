"""Shards a model by FSDP2: every rank holds a share of weights, gradients and AdamW's averages.

    weights      gathered block by block for a forward or backward, and dropped again
    gradients    whole on every rank while micro-batches add up, then reduced to shares: once a step
    scalars      the scale and the bias stay whole, with their gradients averaged

Checkpoints hold whole tensors, as without sharding: a run may resume with or without sharding, and
open_clip reads its checkpoints.
"""

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup


def shard(model: nn.Module, device: torch.device, group: ProcessGroup | None = None) -> None:
    """Shard `model` in place over the ranks of a group, each block of its towers by itself.

    Args:
        device: of this rank, which will hold its shares.
        group: by default all ranks.
    """
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    mesh = DeviceMesh.from_group(group or dist.group.WORLD, device.type)
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    # A block of mT5 is a list of parts itself; it is sharded as a whole, like all blocks.
    within = {part for blocks in lists for part in blocks.modules() if part is not blocks}
    for blocks in lists:
        for block in blocks if blocks not in within else ():
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params={p for p in model.parameters() if p.ndim == 0})
    model.to(device)


# Both look for a method, because importing FSDP2's classes takes half as long as importing torch;
# and they look in the type, because a module searches three dictionaries before it raises.
def is_sharded(model: nn.Module) -> bool:
    """Return whether this is a module of FSDP2."""
    return hasattr(type(model), "set_requires_gradient_sync")


def is_share(tensor: Tensor) -> bool:
    """Return whether every rank has a share of this tensor."""
    return hasattr(type(tensor), "full_tensor")


def group_of(model: nn.Module) -> ProcessGroup:
    """Return the ranks that a model is sharded over."""
    shares = filter(is_share, model.parameters())
    return next(shares).device_mesh.get_group()


@contextlib.contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """A context in which every rank has the whole weights of a sharded model.

    Each rank may then call the model any number of times, because no call communicates.
    """
    if not is_sharded(model):
        yield
        return
    parts = [module for module in model.modules() if is_sharded(module)]
    for part in parts:
        part.unshard()
    model.set_reshard_after_forward(False)
    try:
        yield
    finally:
        for part in parts:
            # FSDP2's default: weights outside of all blocks stay whole from forward to backward.
            part.set_reshard_after_forward(part is not model, recurse=False)
            part.reshard()


def whole(tensor: Tensor) -> Tensor:
    """Return the whole tensor, on the CPU if it was sharded; all ranks call this together."""
    return tensor.full_tensor().cpu() if is_share(tensor) else tensor


def shared_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return this rank's share of a whole tensor that every rank has, sharded like `like`."""
    if not is_share(like) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    own = tensor.to(like.device)
    return distribute_tensor(own, like.device_mesh, like.placements, src_data_rank=None)
