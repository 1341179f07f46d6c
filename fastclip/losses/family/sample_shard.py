"""Which samples of a data set each process of a group keeps state for."""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from fastclip.distributed.waiting import Exchange


class SampleShard(NamedTuple):
    """A process's range of the samples: the first ranks have the first, the last may have fewer.

    Attributes:
        num_samples: the number of samples in the data set.
        rank, world_size: the process's rank and the size of its group; a process alone has 0 and
            1, and all samples.

    Example:
        >>> SampleShard.of(10, None).samples
        slice(0, 10, None)
        >>> [SampleShard(10, rank, 3).samples for rank in range(3)]
        [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    """

    num_samples: int
    rank: int
    world_size: int

    @classmethod
    def of(cls, num_samples: int, group: ProcessGroup | None) -> "SampleShard":
        """Return this process's range."""
        return cls(num_samples, *((0, 1) if group is None else (group.rank(), group.size())))

    @property
    def size(self) -> int:
        """How many samples each process has; the last ones may have fewer."""
        return -(-self.num_samples // self.world_size)

    @property
    def samples(self) -> slice:
        """The samples of this process."""
        first, end = (min(self.num_samples, self.size * (self.rank + i)) for i in (0, 1))
        return slice(first, end)

    def owners(self, indices: Tensor) -> Tensor:
        """Return the rank that has each sample."""
        return indices // self.size

    def whole(self, own: Tensor, group: ProcessGroup) -> Tensor:
        """Return the values of all samples, (..., num_samples), from all processes, on the CPU.

        All processes must call it together. The device holds one range at a time.

        Args:
            own: (..., S), the values of this process's samples.
        """
        parts = []
        for rank in range(self.world_size):
            samples = self._replace(rank=rank).samples
            part = own.detach().contiguous()
            if rank != self.rank:
                part = part.new_empty((*own.shape[:-1], samples.stop - samples.start))
            with Exchange(group):
                dist.broadcast(part, group=group, group_src=rank)
            parts.append(part.cpu())
        return torch.cat(parts, -1)
