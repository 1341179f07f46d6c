"""Ids of images and texts: which of them are the same although they are not a pair of the batch.

    same      image i and text j with image_ids_i = text_ids_j and i != j
    pair      image i and text i, whatever their ids

An image and a text that are the same are not negatives of each other: a rectangle leaves their
entry out. With the texts in the order of their ids, the entries that an image leaves out are an
interval of columns. The images are put in the order of the texts, so that pairs stay on the
diagonal. Where both of a pair have one id, as nearly always, this is the order of the images' ids
too, and all entries that are left out are in few tiles along the diagonal.

Ids may stay in the host's memory while features are on a GPU. On the host it can be seen whether
ids are already in order; then nothing is permuted. Nothing here waits for a device.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.ops.side_ids import SideIds as SideIds
from fastclip.ops.side_ids import check_ids as check_ids
from fastclip.ops.side_ids import interval_of as interval_of
from fastclip.ops.side_ids import num_same, side_ids
from fastclip.rectangle import Interval, Rectangle

POSITIVES = ("pairs", "ids")


class PairIds(NamedTuple):
    """The ids of a batch.

    Args:
        images, texts: (B,) int64, both on the features' device or both on the CPU.
        are_positives: whether an image and a text that are the same are positives of each other;
            otherwise they are left out.
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
    """Check the ids that a loss was given; return them, or None without ids.

    Args:
        features: (B, D), valid.
        ids, image_ids, text_ids, positives: see `fastclip.clip_loss`.

    Raises:
        TypeError: ids are not a tensor.
        ValueError: ids are not (B,), not int64 or on another device; `ids` are given together with
            `image_ids` or `text_ids`, or one of these two without the other; `positives` is
            unknown, or is "ids" without any ids.
    """
    checked_positives(positives)
    found = side_ids(features, ids, image_ids=image_ids, text_ids=text_ids)
    if found is None:
        if positives == "ids":
            raise ValueError("positives='ids' needs ids, or image_ids and text_ids")
        return None
    return PairIds(*found, positives == "ids")


def checked_positives(positives: str) -> str:
    if positives not in POSITIVES:
        raise ValueError(f"positives must be one of {POSITIVES}, got {positives!r}")
    return positives


def same_pairs(ids: PairIds, all_texts: Tensor | None = None) -> Tensor:
    """Count the (image, text) that are the same but no pair: () int64, on the ids' device.

    Args:
        ids: the ids of a batch, or of the pairs of this process.
        all_texts: (N,), the ids of the texts of all processes; None with a single process.
    """
    return num_same(SideIds(ids.images, ids.texts), all_texts).sum()


@dataclass(frozen=True)
class InOrder:
    """A rectangle in the order of the ids of its columns, and the way back.

    rectangle: it leaves out the entries with equal ids.
    ids: the ids of its rows and columns, on the features' device, columns in order; None if nothing
        is left out.
    order: (M,), the caller's index of each row; None if the order is unchanged.
    """

    rectangle: Rectangle
    ids: SideIds | None
    order: Tensor | None

    def restored(self, of_rows: Tensor) -> Tensor:
        """Put values of the rows, or of pairs, (..., M), back into the caller's order."""
        if self.order is None:
            return of_rows
        return of_rows.index_select(-1, self.order.argsort())


def in_order(square: Rectangle, row_ids: Tensor, col_ids: Tensor) -> InOrder:
    """Return the square without the entries of equal ids, except for its pairs.

    Args:
        square: its pairs are on the main diagonal.
        row_ids, col_ids: (B,) int64, both on the features' device or both on the CPU.
    """
    rows, cols, order = square.rows, square.cols, None
    if not _are_known_to_be_in_order(col_ids):
        are_one = row_ids is col_ids
        col_ids, order = col_ids.sort(stable=True)
        row_ids = col_ids if are_one else row_ids.index_select(0, order)
        order = order.to(rows.device, non_blocking=True)
        rows, cols = (x.index_select(0, order) for x in (rows, cols))
    return _without_same(square._replace(rows=rows, cols=cols), row_ids, col_ids, order)


def in_order_apart(rectangle: Rectangle, row_ids: Tensor, col_ids: Tensor) -> InOrder:
    """Do the same for a rectangle without pairs: each side is put in the order of its own ids."""
    rows, row_ids, order = _in_own_order(rectangle.rows, row_ids)
    cols, col_ids, _ = _in_own_order(rectangle.cols, col_ids)
    return _without_same(rectangle._replace(rows=rows, cols=cols), row_ids, col_ids, order)


def _in_own_order(features: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    if _are_known_to_be_in_order(ids):
        return features, ids, None
    ids, order = ids.sort(stable=True)
    order = order.to(features.device, non_blocking=True)
    return features.index_select(0, order), ids, order


def _without_same(
    rectangle: Rectangle, row_ids: Tensor, col_ids: Tensor, order: Tensor | None
) -> InOrder:
    known = row_ids, col_ids, *interval_of(row_ids, col_ids)
    device = rectangle.rows.device
    row_ids, col_ids, *excluded = (x.to(device, non_blocking=True) for x in known)
    excluded = Interval(*excluded)
    return InOrder(rectangle._replace(excluded=excluded), SideIds(row_ids, col_ids), order)


def _are_known_to_be_in_order(ids: Tensor) -> bool:
    """Return whether ids are in order; False if looking would wait or break a compiled graph."""
    if ids.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    if type(ids) is not Tensor or torch._C._len_torch_dispatch_stack() > 0:
        return False
    if torch._C._are_functorch_transforms_active():
        return False
    return bool((ids[1:] >= ids[:-1]).all())
