"""A model as a run trains it: on its device, alone, replicated over ranks or sharded."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from fastclip.distributed.processes import Processes
from fastclip.train.weights.average import WeightAverage
from fastclip.train.weights.sharding import is_sharded, shard


def place(model: nn.Module, processes: Processes, by_shares: bool) -> None:
    """Bring `model` to this rank's device, in place.

    Args:
        by_shares: each rank has its share of it, instead of all.

    Raises:
        ValueError: it cannot be sharded: there is one rank, or batch normalisation, whose running
            statistics would differ from rank to rank.
    """
    if not by_shares:
        model.to(processes.device)
        return
    if processes.world_size == 1:
        raise ValueError("--fsdp shards over ranks, and there is one: start with torchrun")
    if _has_batch_norm(model):
        raise ValueError("--fsdp does not take towers with batch normalisation")
    shard(model, processes.device)


def wrap(model: nn.Module, processes: Processes) -> nn.Module:
    """What a step is to call: a whole model on several ranks has its gradients averaged."""
    if processes.world_size == 1 or is_sharded(model):
        return model
    devices = [processes.device] if processes.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)


def make_average(model: nn.Module, decay: float | None, by_shares: bool) -> WeightAverage | None:
    """A float32 average of the weights of `model` and of its buffers, or None.

    Args:
        decay: share of the average that stays at every step; None or 0 is no average.
        by_shares: both are going to be sharded.
    """
    return WeightAverage(model, decay, by_shares) if decay else None


def make_average_of_keys(
    model: nn.Module, momentum: float | None, by_shares: bool, processes: Processes
) -> WeightAverage | None:
    """The average of `model` that encodes the keys of a queue, or None; as `make_average`.

    Raises:
        ValueError: ranks would have different ones: running statistics of batch normalisation
            differ from rank to rank.
    """
    if momentum is not None and processes.world_size > 1 and _has_batch_norm(model):
        raise ValueError(
            "--queue-momentum over several ranks does not take towers with batch normalisation"
        )
    return make_average(model, momentum, by_shares)


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in model.modules())
