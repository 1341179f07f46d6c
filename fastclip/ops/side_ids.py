"""Check the ids of a rectangle's rows and columns, and find which are the same."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.rectangle import Interval


class SideIds(NamedTuple):
    """The ids of the rows and columns of a rectangle, which are compared with each other."""

    rows: Tensor  # (M,) int64
    cols: Tensor  # (N,) int64, same device


def side_ids(features: Tensor, ids: Tensor | None, **of_sides: Tensor | None) -> SideIds | None:
    """Check the ids of pairs that a loss was given; return them, or None without ids.

    Args:
        features: (B, D), valid.
        ids: (B,), the ids of both rows and columns.
        of_sides: instead of `ids`, two arguments by name: the ids of rows, then the ids of columns.

    Raises:
        TypeError, ValueError: as in `pair_ids`, with these names.
    """
    names = " and ".join(of_sides)
    missing = [name for name, x in of_sides.items() if x is None]
    if ids is not None:
        if len(missing) < len(of_sides):
            raise ValueError(f"ids are for both sides: {names} must be None with them")
        check_ids("ids", ids, features)
        ids = ids.contiguous()  # as torch.searchsorted wants it
        return SideIds(ids, ids)
    if len(missing) == len(of_sides):
        return None
    if missing:
        raise ValueError(f"{names} must be given together, but {missing[0]} is None")
    check_all_ids({name: (x, features) for name, x in of_sides.items()})
    return SideIds(*(x.contiguous() for x in of_sides.values()))


def check_ids(name: str, ids: Tensor, features: Tensor) -> None:
    """Raise if `ids` is not (B,) int64, on the device of `features` (B, D) or on the CPU."""
    if not isinstance(ids, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(ids).__name__}")
    if ids.shape != features.shape[:1]:
        raise ValueError(
            f"{name} must have shape ({len(features)},), one for each row of the features, "
            f"got {tuple(ids.shape)}"
        )
    if ids.dtype != torch.int64:
        raise ValueError(f"{name} must be int64, got {ids.dtype}")
    if ids.device != features.device and ids.device.type != "cpu":
        raise ValueError(
            f"{name} must be on the features' device {features.device} or on the CPU, "
            f"got {ids.device}"
        )


def check_all_ids(named: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Raise if any ids do not fit their features, or if not all ids are on one device.

    Args:
        named: each name with its ids and their features.
    """
    for name, (ids, features) in named.items():
        check_ids(name, ids, features)
    (first, (one, _)), *others = named.items()
    for name, (ids, _) in others:
        if ids.device != one.device:
            raise ValueError(
                f"{first} and {name} must be on the same device, got {one.device} and {ids.device}"
            )


def num_same(ids: SideIds, all_cols: Tensor | None = None) -> Tensor:
    """Count for each row the columns with its id that are not its pair: (B,) integers.

    Args:
        ids: the ids of pairs: of a batch, or of this process's part of it.
        all_cols: (N,), the ids of the columns of all processes; None with a single process.
    """
    cols = ids.cols if all_cols is None else all_cols
    begin, end = interval_of(ids.rows, cols.sort().values)
    return end - begin - (ids.rows == ids.cols).to(end.dtype)


def interval_of(row_ids: Tensor, sorted_col_ids: Tensor) -> Interval:
    """Return the interval of columns that have each row's id, where columns are in order."""
    row_ids = row_ids.contiguous()
    begin = torch.searchsorted(sorted_col_ids, row_ids, out_int32=True)
    end = torch.searchsorted(sorted_col_ids, row_ids, out_int32=True, right=True)
    return Interval(begin, end)
