"""Explain the error of a rank that waited in vain for the other ranks.

If one rank alone calls a loss or its backward, it waits for the group's timeout and fails with a
message of gloo that names neither the loss nor a solution. With NCCL, torch's watchdog ends the
process instead, with a message that cannot be changed here.

Nothing is sent before an error. Then the ranks that waited leave a note in the group's store, and
name the ranks whose notes are missing.
"""

import time

import torch
from torch.distributed import ProcessGroup

# Time for the notes of other ranks, whose timeout ends a little later.
SECONDS_FOR_NOTES = 2.0


class Exchange:
    """A context for everything that the ranks of `group` do together: `with Exchange(group): ...`

    Raises:
        RuntimeError: an exchange failed; the error of torch.distributed is its cause.
    """

    __slots__ = ("_group",)

    def __init__(self, group: ProcessGroup) -> None:
        self._group = group

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, RuntimeError) and not isinstance(
            error, (torch.OutOfMemoryError, NotImplementedError)
        ):
            raise RuntimeError(_message(self._group, error)) from error


def _message(group: ProcessGroup, error: RuntimeError) -> str:
    absent = _absent(group)
    who = f" Of its ranks, {absent} did not take part." if absent else ""
    return (
        f"an exchange of a loss between the {group.size()} ranks of its process group failed: "
        f"{str(error).rstrip('.')}.{who} Every rank of the group must call the loss, and its "
        "backward, the same number of times. For a loss over this process's pairs alone, use "
        "ClipLoss(world_size=1), SigLipLoss(world_size=1) or a function without process_group."
    )


def _absent(group: ProcessGroup) -> list[int]:
    """Return the ranks that left no note; an empty list if the store fails."""
    notes = [f"fastclip/waited_in_vain/{rank}" for rank in range(group.size())]
    try:
        store = group.get_group_store()
        store.set(notes[group.rank()], "")
        time.sleep(SECONDS_FOR_NOTES)
        return [rank for rank, note in enumerate(notes) if not store.check([note])]
    except RuntimeError:
        return []
