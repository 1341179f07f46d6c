"""Find the process group of a loss, and check it."""

import torch.distributed as dist
from torch.distributed import ProcessGroup

LOSS_SCHEDULES = ("gather", "ring")


def check_schedule(schedule: str) -> None:
    if schedule not in LOSS_SCHEDULES:
        raise ValueError(f"schedule must be one of {LOSS_SCHEDULES}, got {schedule!r}")


def several_processes(process_group: ProcessGroup | None) -> ProcessGroup | None:
    """Return `process_group` if it has more than one process, otherwise None.

    Raises:
        TypeError: `process_group` is neither a ProcessGroup nor None.
        ValueError: this process is not in it.
    """
    if process_group is None:
        return None
    if not isinstance(process_group, ProcessGroup):
        if process_group == dist.GroupMember.NON_GROUP_MEMBER:
            raise ValueError("process_group must contain this process, but it is not a member")
        kind = type(process_group).__name__
        raise TypeError(f"process_group must be a ProcessGroup or None, got {kind}")
    return process_group if process_group.size() > 1 else None


def check_membership(
    rank: int | None, world_size: int | None, process_group: ProcessGroup | None
) -> None:
    """Raise the errors of `find_group` that can be known now.

    Losses are often created before torch.distributed is initialised; the rest is then checked at
    their first call.
    """
    _check_numbers(rank, world_size)
    if process_group is not None or _is_initialised():
        find_group(rank, world_size, process_group)


def find_group(
    rank: int | None, world_size: int | None, process_group: ProcessGroup | None
) -> ProcessGroup | None:
    """Return the group of a loss with these arguments; None for this process alone.

    Args:
        rank, world_size: the caller's expectation; None accepts any value.
        process_group: None is the default group, if torch.distributed is initialised.

    Raises:
        TypeError, ValueError: as in `several_processes`, or the group has another size or gives
            this process another rank.
    """
    _check_numbers(rank, world_size)
    alone = process_group is None and world_size == 1
    if process_group is None and not alone and _is_initialised():
        process_group = dist.group.WORLD
    group = several_processes(process_group)
    size = 1 if group is None else group.size()
    if world_size is not None and world_size != size:
        have = f"the group has {size}" if process_group is not None else "none is initialised"
        raise ValueError(
            f"world_size={world_size} needs a group of {world_size} processes, but {have} "
            "(torchrun starts processes, and torch.distributed.init_process_group makes the group)"
        )
    own_rank = 0 if group is None else group.rank()
    if rank is not None and rank != own_rank:
        raise ValueError(f"rank must be this process's rank {own_rank} of {size}, got {rank}")
    return group


def _check_numbers(rank: int | None, world_size: int | None) -> None:
    if world_size is not None and world_size < 1:
        raise ValueError(f"world_size must be >= 1, got {world_size}")
    if rank is not None and rank < 0:
        raise ValueError(f"rank must be >= 0, got {rank}")
    if rank is not None and world_size is not None and rank >= world_size:
        raise ValueError(f"rank must be in [0, world_size={world_size}), got {rank}")


def _is_initialised() -> bool:
    return dist.is_available() and dist.is_initialized()
