"""Ids of the rows and columns of a rectangle: as a loss is given them, and which are the same."""

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
    """The ids of pairs as a loss was given them: those of both sides, two by name, or None.

    Args:
        features: (B, D), valid.
        ids: (B,), of rows and columns alike.
        of_sides: by their names, those of rows, then those of columns, in the place of `ids`.

    Raises:
        TypeError, ValueError: as `pair_ids`, with the names.
    """
    names = " and ".join(of_sides)
    missing = [name for name, x in of_sides.items() if x is None]
    if ids is not None:
        if len(missing) < len(of_sides):
            raise ValueError(f"ids are for both sides: {names} must be None where ids are given")
        check_ids("ids", ids, features)
        ids = ids.contiguous()  # as what searches them wants it
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
    """Raise if the ids of any features are wrong, or not all of them on one device.

    Args:
        named: name to ids and the features that they are of.
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
    """How many columns are the same as each row and not its pair: (B,) integers.

    Args:
        ids: of pairs; of a batch, or of those of this process.
        all_cols: (N,), the ids of the columns of all processes; None if there is no other.
    """
    cols = ids.cols if all_cols is None else all_cols
    begin, end = interval_of(ids.rows, cols.sort().values)
    return end - begin - (ids.rows == ids.cols).to(end.dtype)


def interval_of(row_ids: Tensor, sorted_col_ids: Tensor) -> Interval:
    """The columns that have each row's id, (M,) int32 twice, where those are in order."""
    row_ids = row_ids.contiguous()
    begin = torch.searchsorted(sorted_col_ids, row_ids, out_int32=True)
    end = torch.searchsorted(sorted_col_ids, row_ids, out_int32=True, right=True)
    return Interval(begin, end)
