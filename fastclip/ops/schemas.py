"""The schemas of the registered operators `fastclip::*`, and a rectangle as flat arguments.

The dispatcher, the compiler and exported programs only know flat lists of tensors and numbers. Each
list begins with the rectangle, tensors first; `flat` and `rectangle_of` translate.
"""

from typing import Any

import torch
from torch._ops import OpOverload

from fastclip.rectangle import Diagonal, Interval, Rectangle

NUM_TENSORS = 5
NUM_ARGUMENTS = 7  # of a rectangle, with its tensors
_RECTANGLE = (
    "Tensor row_features, Tensor col_features, Tensor logit_scale, Tensor? excluded_begin,"
    " Tensor? excluded_end, SymInt? positive_offset, bool normalize"
)
_SIDES = "bool of_rows, bool of_cols"
_WANTS = "bool needs_row_grad, bool needs_col_grad"
_PREFIXES = "Tensor row_features, Tensor col_features, Tensor logit_scale, int[] dims"


def flat(rectangle: Rectangle) -> tuple[Any, ...]:
    """Return a rectangle as an operator's first arguments, without `sides`, which not all have."""
    rows, cols, logit_scale, positives, excluded, normalize, _ = rectangle
    begin, end = (None, None) if excluded is None else excluded
    offset = None if positives is None else positives.offset
    return rows, cols, logit_scale, begin, end, offset, normalize


def rectangle_of(arguments: tuple[Any, ...]) -> tuple[Rectangle, tuple[Any, ...]]:
    """Return the rectangle that an operator was given, unchecked, and the arguments after it."""
    rows, cols, logit_scale, begin, end, offset, normalize, *others = arguments
    excluded = None if begin is None and end is None else Interval(begin, end)
    positives = None if offset is None else Diagonal(offset)
    return Rectangle(rows, cols, logit_scale, positives, excluded, normalize), tuple(others)


def _define(name: str, arguments: str, results: str) -> OpOverload:
    torch.library.define(f"fastclip::{name}", f"({arguments}) -> ({results})")
    return getattr(torch.ops.fastclip, name).default


contrastive_lse = _define(
    "contrastive_lse",
    f"{_RECTANGLE}, {_SIDES}, str backend, SymInt? workspace, SymInt kept_rows, bool needs_maximum",
    "Tensor positive, Tensor shift, Tensor total, Tensor kept",
)
contrastive_lse_backward = _define(
    "contrastive_lse_backward",
    f"{_RECTANGLE}, {_SIDES}, Tensor grad_positive, Tensor grad_total, Tensor shift, Tensor kept,"
    f" str backend, SymInt? workspace, {_WANTS}",
    "Tensor grad_row, Tensor grad_col, Tensor grad_logit_scale",
)
prefix_lse = _define(
    "prefix_lse",
    f"{_PREFIXES}, str backend, SymInt kept_rows",
    "Tensor positive, Tensor maximum, Tensor total, Tensor kept",
)
prefix_lse_backward = _define(
    "prefix_lse_backward",
    f"{_PREFIXES}, Tensor grad_positive, Tensor grad_total, Tensor positive, Tensor maximum,"
    f" Tensor kept, str backend, {_WANTS}",
    "Tensor grad_row, Tensor grad_col, Tensor grad_logit_scale",
)
siglip_sum = _define(
    "siglip_sum",
    f"{_RECTANGLE}, Tensor logit_bias, str backend, SymInt? workspace, SymInt kept_rows",
    "Tensor row_loss, Tensor kept",
)
siglip_sum_backward = _define(
    "siglip_sum_backward",
    f"{_RECTANGLE}, Tensor logit_bias, Tensor grad_row_loss, Tensor kept,"
    f" str backend, SymInt? workspace, {_WANTS}",
    "Tensor grad_row, Tensor grad_col, Tensor grad_logit_scale, Tensor grad_logit_bias",
)
siglip_total = _define(
    "siglip_total",
    f"{_RECTANGLE}, Tensor logit_bias, str backend, SymInt? workspace, {_WANTS}",
    "Tensor total, Tensor grad_row, Tensor grad_col, Tensor grad_logit_scale,"
    " Tensor grad_logit_bias",
)
# It takes the inputs so that a second derivative raises an error instead of being zero.
siglip_total_backward = _define(
    "siglip_total_backward",
    "Tensor grad_total, Tensor row_features, Tensor col_features, Tensor logit_scale,"
    " Tensor logit_bias, Tensor grad_row, Tensor grad_col, Tensor grad_logit_scale,"
    " Tensor grad_logit_bias",
    "Tensor, Tensor, Tensor, Tensor",
)
