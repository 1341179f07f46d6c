"""Find rows that are the same item: an image with several captions, or a text of several images.

Items are numbered in the order in which they first appear. Rows with equal ids, such as names,
paths, or digests of pixels and tokens, are one item; without ids, rows with equal features are.
"""

import hashlib
import warnings
from collections.abc import Hashable, Iterable, Sequence

import torch
from torch import Tensor

Ids = Sequence[Hashable] | Tensor


def distinct(ids: Iterable[Hashable] | Tensor) -> Tensor:
    """Return (N,) int64 numbers of N ids, counted in order of first appearance.

    Equal ids get the same number.

    Args:
        ids: N names, paths, digests, ..., or an (N,) tensor of numbers.

    Example:
        >>> distinct(["cat", "dog", "cat"])
        tensor([0, 1, 0])
    """
    numbers: dict[Hashable, int] = {}
    values = ids.tolist() if isinstance(ids, Tensor) else ids
    return torch.tensor([numbers.setdefault(value, len(numbers)) for value in values])


def first_of_each(numbers: Tensor) -> Tensor:
    """Return the index at which each number from `distinct` first appears, as int64."""
    found = torch.full((int(numbers.max()) + 1,), len(numbers))
    return found.scatter_reduce(0, numbers, torch.arange(len(numbers)), "amin")


def digests(rows: Tensor) -> list[bytes]:
    """Return a digest of each of N rows, of any shape and dtype; equal rows have equal digests."""
    contents = rows.detach().cpu().contiguous().flatten(1).view(torch.uint8).numpy()
    return [hashlib.blake2b(row, digest_size=16).digest() for row in contents]


def items_of_pairs(
    image_features: Tensor, text_features: Tensor, image_ids: Ids | None, text_ids: Ids | None
) -> tuple[Tensor, Tensor]:
    """Number the images and the texts of N pairs; see `fastclip.evaluate.ranking.retrieval`.

    Args:
        image_features: (N, D).
        text_features: (N, D).
        image_ids: N ids, or None. With None, pairs with equal rows share one image, and a warning,
            which points to the line that called the caller, says how many rows repeat.
        text_ids: N ids of texts, or None, likewise.

    Returns:
        (N,) int64 numbers of images, and (N,) int64 numbers of texts, on the host.

    Raises:
        ValueError: the number of ids is not N.
    """
    images, texts = _equal_rows(image_features), _equal_rows(text_features)
    found = []
    for name, features, ids, own, other in (
        ("image", image_features, image_ids, images, texts),
        ("text", text_features, text_ids, texts, images),
    ):
        if ids is None:
            items = _apart_where_collapsed(own, other)
            repeats = len(items) - int(items.max()) - 1
            if repeats:
                warnings.warn(
                    f"{repeats} of {len(items)} rows of {name}_features equal an earlier row; "
                    f"pairs with equal rows are taken to have the same {name}. Give {name}_ids= to "
                    f"say which pairs have the same {name}",
                    stacklevel=3,
                )
        elif len(ids) != len(features):
            raise ValueError(
                f"{name}_ids must have {len(features)} ids, one per pair, got {len(ids)}"
            )
        else:
            items = distinct(ids)
        found.append(items)
    return found[0], found[1]


def _equal_rows(features: Tensor) -> Tensor:
    """Return (N,) numbers of rows, the same for equal rows; a row with nan equals no other row."""
    names: list[Hashable] = list(digests(features + 0.0))  # -0.0 is 0.0
    for i in features.isnan().any(1).nonzero().flatten().tolist():
        names[i] = i
    return distinct(names)


def _apart_where_collapsed(own: Tensor, other: Tensor) -> Tensor:
    """Treat equal rows as one item, except where a collapsed model explains that they are equal.

    Rows count as collapsed if all rows are equal, or if the rows with which equal rows are paired
    are equal as well.

    Args:
        own: (N,) numbers of equal rows.
        other: (N,) numbers of equal rows on the other side of the pairs.
    """
    if len(own) > 1 and int(own.max()) == 0:
        return torch.arange(len(own))
    partners = torch.stack([own, other]).unique(dim=1)[0].bincount(minlength=int(own.max()) + 1)
    is_collapsed = (partners == 1)[own].tolist()
    return distinct(
        (number, i if apart else None)
        for i, (number, apart) in enumerate(zip(own.tolist(), is_collapsed, strict=True))
    )
