"""Which of many rows are one item: the image of several captions, the text of several images.

Items are numbered in the order in which they first appear. What is one item is said by ids, such as
names, paths, or digests of pixels and tokens; where there are none, equal features are one.
"""

import hashlib
import warnings
from collections.abc import Hashable, Iterable, Sequence

import torch
from torch import Tensor

Ids = Sequence[Hashable] | Tensor


def distinct(ids: Iterable[Hashable] | Tensor) -> Tensor:
    """Number N ids in the order in which they first appear: (N,) int64, equal ones alike.

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
    """Return where each of the numbers of `distinct` first appears, (number of items,) int64."""
    found = torch.full((int(numbers.max()) + 1,), len(numbers))
    return found.scatter_reduce(0, numbers, torch.arange(len(numbers)), "amin")


def digests(rows: Tensor) -> list[bytes]:
    """Return a digest of each of N rows of any shape and dtype; equal rows have equal ones."""
    contents = rows.detach().cpu().contiguous().flatten(1).view(torch.uint8).numpy()
    return [hashlib.blake2b(row, digest_size=16).digest() for row in contents]


def items_of_pairs(
    image_features: Tensor, text_features: Tensor, image_ids: Ids | None, text_ids: Ids | None
) -> tuple[Tensor, Tensor]:
    """Number the images and the texts of N pairs; see `fastclip.evaluate.ranking.retrieval`.

    Args:
        image_features: (N, D).
        text_features: (N, D).
        image_ids: N ids, or None: equal rows are then one image, which a warning says that points
            to the line from which the caller was called.
        text_ids: the same of texts.

    Returns:
        (N,) int64 numbers of images, and of texts, on the host.

    Raises:
        ValueError: the ids are not N.
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
                    f"{repeats} of {len(items)} rows of {name}_features equal an earlier row: "
                    f"pairs with equal rows are taken to have the same {name}. Give {name}_ids= to "
                    f"say which pairs have the same {name}",
                    stacklevel=3,
                )
        elif len(ids) != len(features):
            raise ValueError(f"{name}_ids must be {len(features)}, one per pair, got {len(ids)}")
        else:
            items = distinct(ids)
        found.append(items)
    return found[0], found[1]


def _equal_rows(features: Tensor) -> Tensor:
    """Numbers (N,) of rows, equal ones alike; nan equals nothing."""
    names: list[Hashable] = list(digests(features + 0.0))  # -0.0 is 0.0
    for i in features.isnan().any(1).nonzero().flatten().tolist():
        names[i] = i
    return distinct(names)


def _apart_where_collapsed(own: Tensor, other: Tensor) -> Tensor:
    """Take rows for one item where they are equal and it is not the model that makes them so.

    Args:
        own: (N,) numbers of equal rows.
        other: (N,) the same of what the rows are paired with.
    """
    if len(own) > 1 and int(own.max()) == 0:
        return torch.arange(len(own))
    partners = torch.stack([own, other]).unique(dim=1)[0].bincount(minlength=int(own.max()) + 1)
    is_collapsed = (partners == 1)[own].tolist()
    return distinct(
        (number, i if apart else None)
        for i, (number, apart) in enumerate(zip(own.tolist(), is_collapsed, strict=True))
    )
