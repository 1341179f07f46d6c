"""Decide how a rectangle is computed: its backend, the logits to keep, and the number of passes.

`choice.py` chooses the backend.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.backends.kept_logits import KeptLayout
from fastclip.ops.choice import ORDER as ORDER
from fastclip.ops.choice import available_backends as available_backends
from fastclip.ops.choice import constant_for_the_compiler, load_backend
from fastclip.ops.choice import explain_backends as explain_backends
from fastclip.ops.choice import objection as objection
from fastclip.ops.choice import resolve_backend as resolve_backend
from fastclip.ops.differentiation import needs_grad
from fastclip.rectangle import Rectangle


class Call(NamedTuple):
    """How a primitive is computed.

    Args:
        backend: the backend's name.
        workspace: bytes of memory that the backend may use to save time; None is its own bound.
        kept_rows: how many rows of logits the forward keeps for the backward.
        one_pass: whether the forward computes the gradients too (`siglip_total`).
    """

    backend: str
    workspace: int | None = None
    kept_rows: int = 0
    one_pass: bool = False


def plan(
    primitive: str, backend: str, rectangle: Rectangle, workspace: int | None, *others: Tensor
) -> Call:
    """Decide once how a primitive of `rectangle` is computed.

    Args:
        primitive: "contrastive_lse", "siglip_sum" or, if only the sum of all losses is wanted,
            "siglip_total".
        backend: a name, or "auto".
        rectangle: its features are valid.
        others: further tensors that may need a gradient.

    Raises:
        ValueError: `backend` is unknown.
        RuntimeError: the named backend cannot take the rectangle; the message says why.
            Or a check at a first use with "auto" lost the GPU's context.
    """
    rows, cols, logit_scale = rectangle[:3]
    with_gradients = needs_grad(rows, cols, logit_scale, *others)
    if primitive == "siglip_total" and not with_gradients:
        primitive = "siglip_sum"
    leaves_out = rectangle.excluded is not None
    name = resolve_backend(backend, rows, primitive, leaves_out)
    if not with_gradients:
        return Call(name, workspace)
    if primitive == "siglip_total":
        if has_one_pass_siglip(name):
            return Call(name, workspace, one_pass=True)
        primitive = "siglip_sum"
    M, N = rows.shape[0], cols.shape[0]
    return Call(name, workspace, kept_rows(name, primitive, M, N, rows.dtype, workspace))


def kept_rows(
    backend: str, primitive: str, M: int, N: int, dtype: torch.dtype, workspace: int | None
) -> int:
    """Return how many rows of the M x N logits the forward keeps for the backward."""
    return kept_layout(backend, primitive, dtype).num_rows(M, N, workspace)


def kept_like(backend: str, primitive: str, features: Tensor, kept_rows: int, N: int) -> Tensor:
    """Return an empty tensor in which `backend` keeps kept_rows rows of N logits."""
    row_bytes = kept_layout(backend, primitive, features.dtype).row_bytes(N)
    return features.new_empty((kept_rows, row_bytes), dtype=torch.uint8)


@constant_for_the_compiler
def kept_layout(backend: str, primitive: str, dtype: torch.dtype) -> KeptLayout:
    return load_backend(backend).kept_layout(primitive, dtype)


@constant_for_the_compiler
def has_prefixes(backend: str) -> bool:
    return hasattr(load_backend(backend), "prefix_lse")


@constant_for_the_compiler
def has_one_pass_siglip(backend: str) -> bool:
    return hasattr(load_backend(backend), "siglip_sum_with_gradients")
