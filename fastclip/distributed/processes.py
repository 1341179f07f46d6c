"""The processes of a job, such as a training run: started by torchrun, or this process alone."""

import gc
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT_MINUTES = 10.0
# Words in errors of gloo and NCCL, in lower case, that say that another rank is gone.
LOST = ("connection closed", "connection reset", "broken pipe", "timed out", "timeout", "nccl")


class Processes:
    """This process and the other processes of its job, each of which works on its part of the data.

    Attributes:
        rank, world_size: as in torch.distributed; 0 and 1 for a single process.
        device: the device of this process.
    """

    def __init__(
        self,
        device: str | None = None,
        backend: str | None = None,
        timeout_minutes: float = TIMEOUT_MINUTES,
    ) -> None:
        """Join the processes that torchrun started, if this process is one of them.

        Args:
            device: "cpu" or "cuda"; by default this process's GPU if there is one, else the CPU.
            backend: the backend of torch.distributed; by default "nccl" on GPUs, else "gloo".
            timeout_minutes: how long a rank waits for the others before it gives up.
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
        """Return for each flag whether it is set on any rank, so that all ranks do the same."""
        if self.world_size == 1:
            return list(flags)
        values = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return [bool(value) for value in values.tolist()]

    def gather(self, value: Any) -> list[Any] | None:
        """Return every rank's value, in the order of ranks, on the first rank; None on others."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size if self.is_first else None
        dist.gather_object(value, values)
        return values

    def gather_columns(self, rows: Tensor) -> list[Tensor]:
        """Return every rank's (K, B_r), in order, on all ranks, on the CPU; K must be equal."""
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
        """Return the first rank's value on all ranks."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def agree(self, find: Callable[[], Any]) -> Any:
        """Call `find` on the first rank only, and return its result on all ranks.

        Raises:
            ValueError, OSError: `find` raised it on the first rank; all ranks raise it.
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
        """Return an error's message; if it says that another rank is gone, add what to do."""
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
            together: wait for all ranks first, as after a successful run: if a rank closes its
                connections while another rank still uses them, the other rank fails.
        """
        if dist.is_initialized():
            gc.collect()  # a wrapped model in a cycle must not outlive the connections
            if together:
                dist.barrier()
            dist.destroy_process_group()
