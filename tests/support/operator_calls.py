"""Calls of the operators by their names: right ones, and what makes them wrong."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastclip.backends.normalization import compute_dtype
from fastclip.ops.dispatch import kept_like, load_backend

Shape = tuple[int, int, int]  # M, N, D
M, N, D = SHAPE = 4, 6, 5
OPERATORS = (
    "contrastive_lse",
    "contrastive_lse_backward",
    "prefix_lse",
    "prefix_lse_backward",
    "siglip_sum",
    "siglip_sum_backward",
    "siglip_total",
    "siglip_total_backward",
    "clip_loss",
)
# Of the schemas; all others are numbers, flags and names.
FEATURES = ("row_features", "col_features")
GRADIENTS = ("grad_row", "grad_col")
VECTORS = ("grad_positive", "grad_row_loss", "grad_total", "shift", "positive", "maximum")
INTERVALS = ("excluded_begin", "excluded_end")
SCALARS = ("logit_scale", "logit_bias", "grad_logit_scale", "grad_logit_bias")
NUMBERS = {
    "positive_offset": (2**63 - 1, -(2**63), 2**30 + 1),
    "kept_rows": (-1, 2**31, 2**62),
    "workspace": (-1,),
}
DTYPES = {"grad_dtype": (torch.int64, torch.complex64, torch.float8_e5m2)}
OTHERS = {
    "positive_offset": 1,
    "kept_rows": 0,
    "workspace": None,
}


def arguments(
    overload: Any, backend: str, shape: Shape = SHAPE, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """Right ones of an operator, in order."""
    operator = overload.name().partition("::")[2]
    if operator == "clip_loss":
        shape = shape[1], *shape[1:]
    found = {x.name: _right(x.name, operator, backend, shape, dtype)
             for x in overload._schema.arguments}  # fmt: skip
    if operator == "siglip_total_backward":
        found["grad_total"] = torch.ones((), dtype=compute_dtype(dtype))
    return found


def wrong_values(name: str, right: Any) -> Iterator[Any]:
    """What an argument must not be, where the others are right."""
    if name in NUMBERS | DTYPES:
        yield from (NUMBERS | DTYPES)[name]
    elif name == "dims":
        D = right[-1]
        yield from ([], [0, D], [-1, D], [D, D], [D + 1], [D, 1], [D, D + 1])
    elif name == "kept":
        yield from _wrong_kept(right)
    elif isinstance(right, Tensor):
        yield from _wrong_tensors(name, right)


def _right(name: str, operator: str, backend: str, shape: Shape, dtype: torch.dtype) -> Any:
    M, N, D = shape
    if name in FEATURES + GRADIENTS:
        return torch.randn(M if "row" in name else N, D).to(dtype)
    dims = sorted({max(1, D // 2), D})
    num_prefixes = len(dims) if operator.startswith("prefix") else 1
    if name == "dims":
        return dims
    if name in VECTORS:
        length = M if name in ("grad_positive", "grad_row_loss", "positive") else M + N
        shape = (len(dims), length) if operator.startswith("prefix") else (length,)
        return torch.rand(shape).to(compute_dtype(dtype))
    if name in INTERVALS:
        if not hasattr(load_backend(backend), "TAKES_INTERVALS"):
            return None
        return torch.randint(-2, N + 2, (M,), dtype=torch.int32)
    if name == "kept":
        features = torch.empty(M, D, dtype=dtype)
        primitive = operator.removesuffix("_backward").replace("prefix", "contrastive")
        return kept_like(backend, primitive, features, 0, num_prefixes * N)
    if name in SCALARS:
        return torch.tensor(2.0, dtype=compute_dtype(dtype))
    if name in DTYPES:
        return dtype
    return backend if name == "backend" else OTHERS.get(name, True)


def _wrong_tensors(name: str, right: Tensor) -> Iterator[Tensor]:
    other = torch.float32 if right.dtype == torch.float64 else torch.float64
    for dtype in (other, torch.int64, torch.complex64):
        yield right.to(dtype)
    yield right[None]
    yield right.to_sparse()
    yield right.to("meta")
    if right.dim() == 0:
        yield right.repeat(2)
        return
    yield right[:0]
    if name in FEATURES:
        yield right[:, :-1]
        yield right[:, :0]
        return
    yield right[1:]
    yield torch.cat([right, right[:1]])
    if name in VECTORS + INTERVALS:
        yield right[:1].expand_as(right)
        yield right.repeat_interleave(2, 0)[::2]


def _wrong_kept(right: Tensor) -> Iterator[Tensor]:
    width = right.shape[1]
    yield right.flatten()
    yield right.float()
    yield right.to("meta")
    for rows, columns in ((1, width + 1), (2, width + 4), (1, 1), (2 * width + 1, max(1, width))):
        yield torch.zeros(rows, columns, dtype=torch.uint8)
    if width > 0:
        yield torch.zeros(2, width)
        yield torch.zeros(width, 2, dtype=torch.uint8).T
        yield torch.zeros(2 * width + 1, dtype=torch.uint8)[1:].view(2, width)
