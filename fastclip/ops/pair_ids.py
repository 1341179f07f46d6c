"""Ids of images and texts: which of them are the same, though they are not a pair of the batch.

    same      image i and text j with image_ids_i = text_ids_j and i != j
    pair      image i and text i, whatever their ids

The same are no negatives of each other: a rectangle leaves them out. In it an image's are an
interval of columns, once the texts are in the order of their ids. The images are put in the order
of the texts, so that pairs stay on the diagonal; where a pair has one id, as nearly always, it is
the order of the images' ids too, and what is left out lies in few tiles, along the diagonal.

Ids may stay in the host's memory while features are on a GPU. There it is known whether they are
in order already: then nothing is permuted. Nothing here waits for a device.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.rectangle import Interval, Rectangle

POSITIVES = ("pairs", "ids")


class PairIds(NamedTuple):
    """The ids of a batch.

    Args:
        images, texts: (B,) int64, both on the features' device or both on the CPU.
        are_positives: whether the same are positives of each other; otherwise they are left out.
    """

    images: Tensor
    texts: Tensor
    are_positives: bool = False

    def on(self, device: torch.device) -> "PairIds":
        images, texts = (x.to(device, non_blocking=True) for x in self[:2])
        return self._replace(images=images, texts=texts)


def pair_ids(
    features: Tensor,
    ids: Tensor | None,
    image_ids: Tensor | None,
    text_ids: Tensor | None,
    positives: str = "pairs",
) -> PairIds | None:
    """The ids that a loss was given, or None.

    Args:
        features: (B, D), valid.
        ids, image_ids, text_ids, positives: see `fastclip.clip_loss`.

    Raises:
        TypeError: ids are no tensor.
        ValueError: they are not (B,), not int64 or on another device; `ids` come with one of the
            others, or one of these without the other; `positives` is unknown, or "ids" without any.
    """
    checked_positives(positives)
    if ids is not None:
        if image_ids is not None or text_ids is not None:
            raise ValueError(
                "ids are those of images and texts: image_ids and text_ids must be None with them"
            )
        check_ids("ids", ids, features)
        return PairIds(ids, ids, positives == "ids")
    if image_ids is None and text_ids is None:
        if positives == "ids":
            raise ValueError("positives='ids' needs ids, or image_ids and text_ids")
        return None
    if image_ids is None or text_ids is None:
        missing = "image_ids" if image_ids is None else "text_ids"
        raise ValueError(f"image_ids and text_ids are compared with each other: {missing} is None")
    check_ids("image_ids", image_ids, features)
    check_ids("text_ids", text_ids, features)
    if image_ids.device != text_ids.device:
        raise ValueError(
            f"image_ids and text_ids must be on one device, got {image_ids.device} and "
            f"{text_ids.device}"
        )
    return PairIds(image_ids, text_ids, positives == "ids")


def checked_positives(positives: str) -> str:
    if positives not in POSITIVES:
        raise ValueError(f"positives must be one of {POSITIVES}, got {positives!r}")
    return positives


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


def same_pairs(ids: PairIds, all_texts: Tensor | None = None) -> Tensor:
    """How many (image, text) are the same and no pair: () int64, on the ids' device.

    Args:
        ids: of a batch, or of the pairs of this process.
        all_texts: (N,), the ids of the texts of all processes; None if there is no other.
    """
    texts = ids.texts if all_texts is None else all_texts
    begin, end = interval_of(ids.images, texts.sort().values)
    return (end - begin).sum() - (ids.images == ids.texts).sum()


def interval_of(row_ids: Tensor, sorted_col_ids: Tensor) -> Interval:
    """The columns that have each row's id, (M,) int32 twice, where those are in order."""
    begin = torch.searchsorted(sorted_col_ids, row_ids, out_int32=True)
    end = torch.searchsorted(sorted_col_ids, row_ids, out_int32=True, right=True)
    return Interval(begin, end)


class SideIds(NamedTuple):
    """The ids of the rows and columns of a rectangle, on the features' device; columns in order."""

    rows: Tensor  # (M,) int64
    cols: Tensor  # (N,) int64


@dataclass(frozen=True)
class InOrder:
    """A square in the order of the ids of its columns, and the way back.

    rectangle: the square; what is the same is left out of it.
    ids: those of its rows and columns.
    order: (B,), which of the caller's pairs stands where; None if all are in their places.
    """

    rectangle: Rectangle
    ids: SideIds
    order: Tensor | None

    def restored(self, of_pairs: Tensor) -> Tensor:
        """Numbers of the pairs, (..., B), in the caller's order."""
        if self.order is None:
            return of_pairs
        return of_pairs.index_select(-1, self.order.argsort())


def in_order(square: Rectangle, row_ids: Tensor, col_ids: Tensor) -> InOrder:
    """The square whose entries with equal ids are left out, but for its pairs.

    Args:
        square: of pairs on the main diagonal.
        row_ids, col_ids: (B,) int64, both on the features' device or both on the CPU.
    """
    device = square.rows.device
    rows, cols, order = square.rows, square.cols, None
    if not _are_known_to_be_in_order(col_ids):
        are_one = row_ids is col_ids
        col_ids, order = col_ids.sort(stable=True)
        row_ids = col_ids if are_one else row_ids.index_select(0, order)
        order = order.to(device, non_blocking=True)
        rows, cols = (x.index_select(0, order) for x in (rows, cols))
    known = row_ids, col_ids, *interval_of(row_ids, col_ids)
    row_ids, col_ids, *excluded = (x.to(device, non_blocking=True) for x in known)
    rectangle = square._replace(rows=rows, cols=cols, excluded=Interval(*excluded))
    return InOrder(rectangle, SideIds(row_ids, col_ids), order)


def _are_known_to_be_in_order(ids: Tensor) -> bool:
    """False where to look would wait for a device, or break the compiler's graph."""
    if ids.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    if type(ids) is not Tensor or torch._C._len_torch_dispatch_stack() > 0:
        return False
    if torch._C._are_functorch_transforms_active():
        return False
    return bool((ids[1:] >= ids[:-1]).all())
