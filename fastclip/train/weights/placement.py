"""Places the model of a run: on one device, replicated over ranks, or sharded over ranks."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from fastclip.distributed.processes import Processes
from fastclip.train.weights.average import WeightAverage
from fastclip.train.weights.sharding import is_sharded, shard


def place(model: nn.Module, processes: Processes, by_shares: bool) -> None:
    """Move `model` to this rank's device, in place.

    Args:
        by_shares: every rank holds a share of the model, instead of the whole model.

    Raises:
        ValueError: the model cannot be sharded, because there is only one rank, or because it has
            batch normalisation, whose running statistics would differ from rank to rank.
    """
    if not by_shares:
        model.to(processes.device)
        return
    if processes.world_size == 1:
        raise ValueError(
            "--fsdp shards over several ranks, but there is only one: start the run with torchrun"
        )
    if _has_batch_norm(model):
        raise ValueError(
            "--fsdp cannot train towers with batch normalisation, such as ResNets: their running "
            "statistics would differ from rank to rank"
        )
    shard(model, processes.device)


def wrap(model: nn.Module, processes: Processes) -> nn.Module:
    """Return the model that a step calls, in DistributedDataParallel if ranks replicate it."""
    if processes.world_size == 1 or is_sharded(model):
        return model
    devices = [processes.device] if processes.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)


def make_average(model: nn.Module, decay: float | None, by_shares: bool) -> WeightAverage | None:
    """Make a float32 average of the weights of `model` and of its buffers, or return None.

    Args:
        decay: the fraction of the average that stays at every step; None or 0 makes no average.
        by_shares: the model and the average will be sharded.
    """
    return WeightAverage(model, decay, by_shares) if decay else None


def make_average_of_keys(
    model: nn.Module, momentum: float | None, by_shares: bool, processes: Processes
) -> WeightAverage | None:
    """Make the average of `model` that encodes the keys of a queue, or None; as `make_average`.

    Raises:
        ValueError: ranks would have different averages, because running statistics of batch
            normalisation differ from rank to rank.
    """
    if momentum is not None and processes.world_size > 1 and _has_batch_norm(model):
        raise ValueError(
            "--queue-momentum over several ranks cannot take towers with batch normalisation: "
            "their running statistics would differ from rank to rank"
        )
    return make_average(model, momentum, by_shares)


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in model.modules())
