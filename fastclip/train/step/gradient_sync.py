"""Synchronises gradients over ranks once per step, whatever wraps the model, or if nothing does.

DistributedDataParallel averages gradients over ranks in every backward unless told otherwise, and
decides this at the forward: a graph that was made without synchronisation stays without it. FSDP2
decides at the backward, and gathers weights in every forward, so that all ranks must run equally
many forwards. Either may wrap the model or parts of it. This module averages all other gradients
after the last backward: all parameters of a bare model, the scalars that FSDP2 leaves alone, and
the parameters of the loss.
"""

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn.parallel import DistributedDataParallel

from fastclip.distributed.groups import find_group, several_processes
from fastclip.losses.contrastive_loss import ContrastiveLoss
from fastclip.losses.family.module import FamilyLoss
from fastclip.train.step.gradient_average import average_gradients
from fastclip.train.weights.sharding import group_of, is_sharded, is_share

AUTO = "auto"


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside DistributedDataParallel, for forwards that have no backward."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def check_average_over(average_over: str | ProcessGroup | None) -> None:
    """Raise ValueError or TypeError unless it is "auto", None, or a group that has this process."""
    if not isinstance(average_over, str):
        several_processes(average_over)
    elif average_over != AUTO:
        raise ValueError(
            f"average_over must be 'auto', a ProcessGroup or None, got {average_over!r}"
        )


class GradientSync:
    """Turns the gradients of one step into their means over ranks.

    Args:
        model: bare, or wrapped as a whole or in parts.
        loss: its parameters are averaged like the parameters of a bare model.
        average_over: as in `CachedStep`.

    Attributes:
        group: the ranks that take this step together; None if this process is alone.
        is_replicated: DistributedDataParallel wraps at least a part, which the last forward and
            backward synchronise.

    Raises:
        ValueError: `average_over` is a group of other ranks than the wrapper's ranks, or parts of
            the loss are over different ranks.
    """

    def __init__(
        self, model: nn.Module, loss: object, average_over: str | ProcessGroup | None
    ) -> None:
        self._model = model
        modules = list(model.modules())
        self._replicas = [m for m in modules if isinstance(m, DistributedDataParallel)]
        self._sharded = [m for m in modules if is_sharded(m)]
        # FSDP1, found by an attribute: it synchronises in every backward, which is right too.
        self._flat = [m for m in modules if "_fsdp_wrapped_module" in m._modules]
        self.is_replicated = bool(self._replicas)
        self.group = several_processes(self._find_group(loss, average_over))
        is_ours = self.group is not None and average_over is not None
        self._own = self._not_averaged(loss) if is_ours else []

    @contextlib.contextmanager
    def synchronised(self, enabled: bool) -> Iterator[None]:
        """A context in which forwards and backwards synchronise gradients, or only add them up."""
        with contextlib.ExitStack() as stack:
            for replica in self._replicas if not enabled else ():
                stack.enter_context(replica.no_sync())
            for module in self._sharded:
                module.set_requires_gradient_sync(enabled, recurse=False)
            try:
                yield
            finally:
                for module in self._sharded:
                    module.set_requires_gradient_sync(True, recurse=False)

    def least(self, number: int) -> int:
        """Return the least number of all ranks, or `number` if forwards do not communicate.

        A sharded model gathers weights; a replicated model with buffers, such as running
        statistics, broadcasts them in the first forward that will be synchronised.
        """
        sends_buffers = self.is_replicated and any(True for _ in self._model.buffers())
        if self.group is None or not (self._sharded or self._flat or sends_buffers):
            return number
        least = torch.tensor(number, device=next(self._model.parameters()).device)
        dist.all_reduce(least, dist.ReduceOp.MIN, group=self.group)
        return int(least)

    def gather(self, values: Tensor) -> list[list[float]]:
        """Return the (n,) values of every rank; this is the only wait of a step for the device.

        Raises:
            ValueError: on every rank, if ranks are about to average different parameters.
        """
        if self.group is None:
            return [values.tolist()]
        size = values.new_tensor([sum(p.numel() for p in self._own)], dtype=torch.float64)
        own = torch.cat([values, size])
        everyone = [torch.empty_like(own) for _ in range(self.group.size())]
        dist.all_gather(everyone, own, group=self.group)
        *found, sizes = torch.stack(everyone, dim=1).tolist()
        if len(set(sizes)) > 1:
            raise ValueError(
                "every rank must train the same parameters: the parameters whose gradients are to "
                f"be averaged have {', '.join(f'{size:.0f}' for size in sizes)} elements on ranks "
                f"0 to {len(sizes) - 1}; average_over=None leaves the average to the caller"
            )
        return list(zip(*found, strict=True))

    def average(self) -> None:
        """Average the gradients that no wrapper averages."""
        if self._own:
            average_gradients(self._own, self.group)

    def _find_group(
        self, loss: object, average_over: str | ProcessGroup | None
    ) -> ProcessGroup | None:
        is_given = average_over is not None and average_over != AUTO
        if wrapper := self._group_of_wrapper():
            if is_given and _ranks(average_over) != _ranks(wrapper):
                raise ValueError(
                    f"average_over must be 'auto' or None, or the ranks {_ranks(wrapper)} over "
                    f"which the model's wrapper averages, got a group of {_ranks(average_over)}"
                )
            return wrapper
        if is_given:
            return average_over
        parts = loss.modules() if isinstance(loss, nn.Module) else ()
        groups = [
            find_group(part.rank, part.world_size, part.process_group)
            for part in parts
            if isinstance(part, ContrastiveLoss | FamilyLoss)
        ]
        if not groups:
            # If the caller averages, the processes may have nothing to do with each other.
            return None if average_over is None else find_group(None, None, None)
        if any(_ranks(group) != _ranks(groups[0]) for group in groups):
            raise ValueError(
                "average_over must be a ProcessGroup or None where parts of the loss are over "
                f"different ranks, got {average_over!r} for {[_ranks(group) for group in groups]}"
            )
        return groups[0]

    def _not_averaged(self, loss: object) -> list[nn.Parameter]:
        """Return the parameters whose gradients no wrapper averages."""
        by_wrappers = {id(p) for m in (*self._replicas, *self._flat) for p in m.parameters()}
        return [
            p
            for p in dict.fromkeys([*self._model.parameters(), *parameters_of(loss)])
            if p.requires_grad and id(p) not in by_wrappers and not is_share(p)
        ]

    def _group_of_wrapper(self) -> ProcessGroup | None:
        if self._replicas:
            return self._replicas[0].process_group
        if self._sharded:
            return group_of(self._model)
        return self._flat[0].process_group if self._flat else None


def parameters_of(loss: object) -> list[nn.Parameter]:
    return list(loss.parameters()) if isinstance(loss, nn.Module) else []


def _ranks(group: ProcessGroup | None) -> list[int] | None:
    return None if group is None else dist.get_process_group_ranks(group)
