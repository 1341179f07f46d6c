"""How many rows of logits a forward keeps: none where no backward will ask for them."""

import torch
from torch import Tensor

from fastclip.ops import dispatch


def kept_rows(backend: str, primitive: str, workspace: int | None, *inputs: Tensor) -> int:
    """inputs: (M, D) rows, (N, D) columns, then scalars."""
    if not needs_grad(*inputs):
        return 0
    rows, cols = inputs[:2]
    M, N = rows.shape[0], cols.shape[0]
    return dispatch.kept_rows(backend, primitive, M, N, rows.dtype, workspace)


def needs_grad(*inputs: Tensor) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
