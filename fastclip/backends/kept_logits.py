"""How a backend keeps logits of the forward for its backward, and how many rows fit.

The kept tensor is (kept_rows, row_bytes) uint8; only its backend knows the content.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class KeptLayout(NamedTuple):
    """The memory that kept logits take; sizes are in bytes.

    default_bytes: without a workspace, all logits are kept if they take no more than this.
    reserved_bytes: the part of a given workspace that the backward needs for other things.
    element_bytes: the size of one kept logit; 0 if this backend keeps none.
    multiple: a row is padded to a multiple of so many logits.
    """

    default_bytes: int = 0
    reserved_bytes: int = 0
    element_bytes: int = 0
    multiple: int = 1

    def row_bytes(self, N: int) -> int:
        return (N + self.multiple - 1) // self.multiple * self.multiple * self.element_bytes

    def num_rows(self, M: int, N: int, workspace: int | None) -> int:
        """Return how many of M rows of N logits to keep: all or none, or as many as fit."""
        if self.element_bytes == 0:
            return 0
        if workspace is None:
            return M if M * self.row_bytes(N) <= self.default_bytes else 0
        return min(M, max(0, workspace - self.reserved_bytes) // self.row_bytes(N))


NOTHING_KEPT = KeptLayout()


def no_kept_rows(like: Tensor) -> Tensor:
    """Return the empty `kept` of a backend that keeps nothing."""
    return like.new_empty((0, 0), dtype=torch.uint8)
