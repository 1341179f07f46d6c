"""What a rank says that waited in vain for the others.

A loss that one rank calls alone, and a backward on one rank alone, wait for the group's timeout and
fail with the engine's words, which name neither the loss nor a way out. With NCCL it is torch's
watchdog that ends the process; its words cannot be changed from here.

Nothing is sent before something has failed. Then the ranks that waited leave a note in the group's
store, and tell whose notes are missing.
"""

import time

import torch
from torch.distributed import ProcessGroup

# For the other ranks that wait, and whose time is up a little later.
SECONDS_FOR_NOTES = 2.0


class Exchange:
    """Around everything that the ranks of `group` do together: `with Exchange(group): ...`

    Raises:
        RuntimeError: in the place of the engine's, from which it comes.
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
    """The ranks that left no note; none where the store does not tell."""
    notes = [f"fastclip/waited_in_vain/{rank}" for rank in range(group.size())]
    try:
        store = group.get_group_store()
        store.set(notes[group.rank()], "")
        time.sleep(SECONDS_FOR_NOTES)
        return [rank for rank, note in enumerate(notes) if not store.check([note])]
    except RuntimeError:
        return []
