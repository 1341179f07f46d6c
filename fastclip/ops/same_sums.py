"""Sums of the features that share the id of each image or text, in O(B D), without a mask.

same(i)    the texts j of all processes with image_ids_i = text_ids_j; likewise for a text
sum_i      the sum of their features, (D,);  count_i  their number
own_i      whether the text of i's own pair is among them
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from fastclip.ops.classes import Classes
from fastclip.ops.pair_ids import PairIds

Gathered = Callable[[Tensor], Tensor]  # (B, ...) of this process -> (N, ...) of all


def of_this_process(rows: Tensor) -> Tensor:
    return rows


class SameSums(NamedTuple):
    """The sums of each image, or of each text, of this process.

    sums: (B, D), sums of the other side's features as they are multiplied.
    counts: (B,) int64.
    own: (B,) bool.
    """

    sums: Tensor
    counts: Tensor
    own: Tensor


def same_sums(
    images: Tensor, texts: Tensor, ids: PairIds, gathered: Gathered = of_this_process
) -> tuple[SameSums, SameSums]:
    """Return the sums of texts for each image, and the sums of images for each text.

    Args:
        images, texts: (B, D), as they are multiplied.
        ids: on the device of the features.
    """
    own = ids.images == ids.texts
    found = []
    for ids_here, others, ids_of_others in (
        (ids.images, texts, ids.texts), (ids.texts, images, ids.images),
    ):  # fmt: skip
        all_ids = gathered(ids_of_others)
        classes = Classes(all_ids)
        sums = classes.sums(all_ids, gathered(others))
        found.append(SameSums(classes.of_each(sums, ids_here), classes.count(ids_here), own))
    return tuple(found)
