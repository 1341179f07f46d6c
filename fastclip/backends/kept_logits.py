"""What of the forward's logits a backend keeps for its backward, and how many rows fit.

The kept tensor is (kept_rows, row_bytes) uint8: only its backend knows what is in it.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class KeptLayout(NamedTuple):
    """All sizes in bytes.

    default_bytes: all logits are kept where they take no more than this and no workspace is given.
    reserved_bytes: of a given workspace, what the backward needs otherwise.
    element_bytes: of one kept logit; 0 if this backend keeps none.
    multiple: a row is padded to so many logits.
    """

    default_bytes: int = 0
    reserved_bytes: int = 0
    element_bytes: int = 0
    multiple: int = 1

    def row_bytes(self, N: int) -> int:
        return (N + self.multiple - 1) // self.multiple * self.multiple * self.element_bytes

    def num_rows(self, M: int, N: int, workspace: int | None) -> int:
        """How many of M rows of N logits to keep: all or none, unless a workspace says how many."""
        if self.element_bytes == 0:
            return 0
        if workspace is None:
            return M if M * self.row_bytes(N) <= self.default_bytes else 0
        return min(M, max(0, workspace - self.reserved_bytes) // self.row_bytes(N))


NOTHING_KEPT = KeptLayout()


def no_kept_rows(like: Tensor) -> Tensor:
    """What a backend returns that keeps nothing."""
    return like.new_empty((0, 0), dtype=torch.uint8)
