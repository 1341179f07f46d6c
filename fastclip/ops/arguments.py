"""Check the arguments of the operators, which anybody may call by name with any arguments.

A kernel that gets too short a vector would read beyond its end. The backend `cpu` makes the same
checks in C++, with the same messages (`csrc/cpu/arguments.h`), where they cost nanoseconds.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastclip.backends.kept_logits import KeptLayout
from fastclip.backends.normalization import compute_dtype
from fastclip.ops.validation import FEATURE_DTYPES
from fastclip.rectangle import Interval, Rectangle

LARGEST = 1 << 30  # largest size and offset: kernels add two of them in 32 bits


class Arguments:
    """Checks the rectangle of a call when it is made, and the other arguments by its methods.

    All checks raise a ValueError that names the operator and the argument and says what is needed
    and what was given. Sizes may be symbols of the compiler, which have no bounds yet.
    """

    __slots__ = ("D", "M", "N", "_device", "_dtype", "_operator")

    def __init__(self, operator: str, rectangle: Rectangle) -> None:
        """Check that rows (M, D) and columns (N, D) have one floating dtype; any strides."""
        self._operator = operator
        self._device = rectangle.rows.device
        self.M, self.D = self._features("row_features", rectangle.rows)
        self.N, D = self._features("col_features", rectangle.cols)
        dtype = rectangle.rows.dtype
        if rectangle.cols.dtype != dtype or self.D != D:
            raise self._error(
                "col_features",
                f"must have the dtype and the D of row_features, {_name(dtype)} and {self.D}",
                rectangle.cols,
            )
        self._dtype = compute_dtype(dtype)
        self.scalar("logit_scale", rectangle.logit_scale)
        if rectangle.positives is not None:
            self._number("positive_offset", rectangle.positives.offset, -LARGEST, LARGEST)
        if rectangle.excluded is not None:
            self._interval(rectangle.excluded)

    def scalar(self, name: str, value: Tensor) -> None:
        """Check for shape () and the dtype of logits."""
        self._values(name, value, ())

    def vector(self, name: str, value: Tensor, length: int) -> None:
        """Check for shape (length,) and the dtype of logits."""
        self._values(name, value, (length,))

    def matrix(self, name: str, value: Tensor, num_rows: int, length: int) -> None:
        """Check for shape (num_rows, length) and the dtype of logits."""
        self._values(name, value, (num_rows, length))

    def dims(self, dims: Sequence[int]) -> None:
        """Check the lengths of prefixes: ascending, and the last one is D."""
        bounds = [0, *dims]
        if not dims or bounds != sorted(set(bounds)) or dims[-1] != self.D:
            needed = f"ascending, from 1 on, and end with D, {self.D}"
            raise ValueError(f"{self._operator}: dims must be {needed}, got {list(dims)}")

    def gradient(self, name: str, value: Tensor, num_rows: int, dtype: torch.dtype) -> None:
        """Check for shape (num_rows, D), or (0,) if no gradient is wanted; any strides."""
        shape = num_rows, self.D
        if not self._is_dense(value, dtype) or (value.shape != shape and value.shape != (0,)):
            needed = f"must be dense {_name(dtype)} {list(shape)} or [0] on {self._device}"
            raise self._error(name, needed, value)

    def kept(self, value: Tensor, layout: KeptLayout, num_prefixes: int = 1) -> None:
        """Check for shape (kept_rows, bytes of a row), uint8."""
        row_bytes = layout.row_bytes(num_prefixes * self.N)
        dense = self._is_dense(value, torch.uint8) and value.is_contiguous() and value.dim() == 2
        if not dense or (value.shape[0] != 0 and not self._are_kept(value, layout, row_bytes)):
            needed = (
                f"must be contiguous uint8 [at most {self._most_kept(layout)}, {row_bytes}] on "
                f"{self._device} and aligned to {max(1, layout.element_bytes)} bytes"
            )
            raise self._error("kept", needed, value)

    def kept_rows(self, rows: int, layout: KeptLayout) -> None:
        self._number("kept_rows", rows, 0, self._most_kept(layout))

    def workspace(self, num_bytes: int | None) -> None:
        if num_bytes is not None and num_bytes < 0:
            raise ValueError(f"{self._operator}: workspace must be >= 0 bytes, got {num_bytes}")

    def _features(self, name: str, value: Tensor) -> torch.Size:
        shape, dtype = value.shape, value.dtype
        if len(shape) != 2 or dtype not in FEATURE_DTYPES or not self._is_dense(value, dtype):
            dtypes = "float32, bfloat16, float16 or float64"
            raise self._error(name, f"must be dense {dtypes} [M, D] on {self._device}", value)
        if not (_is_within(shape[0], 1, LARGEST) and _is_within(shape[1], 1, LARGEST)):
            raise self._error(name, "must have sizes from 1 to 2^30", value)
        return shape

    def _interval(self, interval: Interval) -> None:
        if interval.begin is None or interval.end is None:
            both = "excluded_begin and excluded_end"
            raise ValueError(f"{self._operator}: {both} must be given together, got one of them")
        for name, value in (("excluded_begin", interval.begin), ("excluded_end", interval.end)):
            self._values(name, value, (self.M,), torch.int32)

    def _values(
        self, name: str, value: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None
    ) -> None:
        dtype = dtype or self._dtype
        if value.shape != shape or not self._is_dense(value, dtype) or not value.is_contiguous():
            needed = f"must be contiguous {_name(dtype)} {list(shape)} on {self._device}"
            raise self._error(name, needed, value)

    def _is_dense(self, value: Tensor, dtype: torch.dtype) -> bool:
        return (
            value.dtype is dtype and value.device == self._device and value.layout is torch.strided
        )

    def _are_kept(self, value: Tensor, layout: KeptLayout, row_bytes: int) -> bool:
        # With an offset that is not a multiple, the bytes could not be viewed as kept logits.
        rows, bytes_of_row = value.shape
        return (
            _is_within(rows, 0, self._most_kept(layout))
            and bytes_of_row == row_bytes
            and value.storage_offset() % max(1, layout.element_bytes) == 0
        )

    def _most_kept(self, layout: KeptLayout) -> int:
        return self.M if layout.element_bytes > 0 else 0

    def _number(self, name: str, value: int, least: int, most: int) -> None:
        if not _is_within(value, least, most):
            bounds = f"from {least} to {most}"
            raise ValueError(f"{self._operator}: {name} must be {bounds}, got {value}")

    def _error(self, name: str, needed: str, given: Tensor) -> ValueError:
        return ValueError(f"{self._operator}: {name} {needed}, got {_described(given)}")


def _is_within(value: int, least: int, most: int) -> bool:
    # A symbol is not compared: that would restrict the sizes that are compiled or exported.
    return type(value) is not int or type(most) is not int or least <= value <= most


def _described(of: Tensor) -> str:
    text = f"{_name(of.dtype)} {list(of.shape)} on {of.device}"
    if of.layout is not torch.strided:
        return f"{text} of the layout {_name(of.layout)}"
    return text if of.is_contiguous() else f"{text}, not contiguous"


def _name(of: Any) -> str:
    return str(of).removeprefix("torch.")
