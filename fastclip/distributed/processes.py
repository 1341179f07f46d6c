"""The processes of a job, such as a training run: started by torchrun, or this one alone."""

import gc
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT_MINUTES = 10.0
# Of the messages of gloo and NCCL, in lower case.
LOST = ("connection closed", "connection reset", "broken pipe", "timed out", "timeout", "nccl")


class Processes:
    """This process among those of a job, which do the same on their own parts of the data.

    Attributes:
        rank, world_size: of torch.distributed; 0 and 1 alone.
        device: of this process.
    """

    def __init__(
        self,
        device: str | None = None,
        backend: str | None = None,
        timeout_minutes: float = TIMEOUT_MINUTES,
    ) -> None:
        """Join the processes that torchrun started, if it did.

        Args:
            device: "cpu" or "cuda"; by default the GPU of this process if there is one.
            backend: of torch.distributed; "nccl" on GPUs and "gloo" else by default.
            timeout_minutes: that a rank waits for the others before it gives up.
        """
        kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
        local_rank = int(os.environ.get("LOCAL_RANK", 0))
        self.device = torch.device(f"cuda:{local_rank}" if kind == "cuda" else kind)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if "WORLD_SIZE" in os.environ and not dist.is_initialized():
            chosen = backend or ("nccl" if self.device.type == "cuda" else "gloo")
            dist.init_process_group(chosen, timeout=timedelta(minutes=timeout_minutes))
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world_size = dist.get_world_size() if dist.is_initialized() else 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """For each flag, whether it is set on any rank: all ranks then do the same."""
        if self.world_size == 1:
            return list(flags)
        values = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return [bool(value) for value in values.tolist()]

    def gather(self, value: Any) -> list[Any] | None:
        """Every rank's value, in order, on the first rank; None on others."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size if self.is_first else None
        dist.gather_object(value, values)
        return values

    def gather_columns(self, rows: Tensor) -> list[Tensor]:
        """Every rank's (K, B_r), in order, on all of them, on the CPU; K is the same on all."""
        if self.world_size == 1:
            return [rows.cpu()]
        number = torch.tensor([rows.shape[1]], device=self.device)
        numbers = [torch.empty_like(number) for _ in range(self.world_size)]
        dist.all_gather(numbers, number)
        sizes = torch.cat(numbers).tolist()
        padded = torch.zeros((len(rows), max(sizes)), dtype=rows.dtype, device=self.device)
        padded[:, : rows.shape[1]] = rows
        found = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(found, padded)
        here = torch.stack(found).cpu()
        return [x[:, :size] for x, size in zip(here, sizes, strict=True)]

    def broadcast(self, value: Any) -> Any:
        """The first rank's value, on all."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def agree(self, find: Callable[[], Any]) -> Any:
        """What `find` returns on the first rank, which alone calls it, on all.

        Raises:
            ValueError, OSError: `find` raised it on the first rank; it is raised on all.
        """
        outcome: Any = None
        if self.is_first:
            try:
                outcome = find()
            except (ValueError, OSError) as error:
                outcome = error
        outcome = self.broadcast(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def explain(self, error: Exception) -> str:
        """The message of an error, and what to do where it says that another rank is gone."""
        text = str(error)
        if self.world_size == 1 or not any(sign in text.lower() for sign in LOST):
            return text
        return (
            f"rank {self.rank} of {self.world_size} has lost another rank, which was killed, "
            "failed, hung, or kept the others waiting for longer than --dist-timeout-minutes: "
            f"start all ranks again with --resume latest ({text.splitlines()[0]})"
        )

    def leave(self, together: bool) -> None:
        """Close the connections.

        Args:
            together: wait for all ranks first, as after a run that ended well: a rank that closes
                while another still talks to it brings that one down.
        """
        if dist.is_initialized():
            gc.collect()  # a wrapped model in a cycle must not outlive the connections
            if together:
                dist.barrier()
            dist.destroy_process_group()
