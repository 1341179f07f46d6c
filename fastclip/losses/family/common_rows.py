"""Modalities that some samples lack, and the rows of the samples that have two of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.losses.family.inputs import check_labels, checked_features
from fastclip.ops import validation
from fastclip.ops.side_ids import check_all_ids, check_ids

Pair = tuple[str, str]


class PairSamples(NamedTuple):
    """The samples that have both modalities of a pair: (n, D) each, and their ids or None."""

    x: Tensor
    y: Tensor
    x_ids: Tensor | None  # (n,)
    y_ids: Tensor | None


def samples_of(
    pair: Pair,
    numbers: Mapping[str, Tensor | None],
    features: Mapping[str, Tensor],
    ids: Mapping[str, Tensor | None],
) -> PairSamples:
    """Return the samples that have both modalities of a pair, from the result of `numbered`."""
    sides = [features[name] for name in pair]
    of_sides = [ids[name] for name in pair]
    rows = common_rows(*(numbers[name] for name in pair), *map(len, sides))
    if rows is not None:
        sides = [x[of_side] for x, of_side in zip(sides, rows, strict=True)]
        of_sides = [at_rows(*side) for side in zip(of_sides, rows, strict=True)]
    return PairSamples(*sides, *of_sides)


def common_rows(
    numbers: Tensor | None,  # (n,) int64, sorted
    other_numbers: Tensor | None,  # (m,) int64, sorted
    length: int,
    other_length: int,
) -> tuple[Tensor, Tensor] | None:
    """Return the rows of each set whose sample is also in the other, in order; None if all are.

    Args:
        numbers, other_numbers: the samples of the rows; None is 0, 1, ...
        length, other_length: n and m.
    """
    if numbers is None and other_numbers is None and length == other_length:
        return None
    device = next((x.device for x in (numbers, other_numbers) if x is not None), None)
    if numbers is None:
        numbers = torch.arange(length, device=device)
    if other_numbers is None:
        other_numbers = torch.arange(other_length, device=device)
    return (
        torch.isin(numbers, other_numbers, assume_unique=True).nonzero()[:, 0],
        torch.isin(other_numbers, numbers, assume_unique=True).nonzero()[:, 0],
    )


def checked_pairs(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """Return the pairs as tuples; raise if they are not different pairs of names."""
    found = tuple(tuple(pair) for pair in pairs)
    for pair in found:
        if len(pair) != 2 or not all(isinstance(name, str) for name in pair):
            raise TypeError(f"pairs must be pairs of names, got {pair}")
    distinct = {frozenset(pair) for pair in found}
    if not found or len(distinct) < len(found) or any(len(pair) == 1 for pair in distinct):
        raise ValueError(f"pairs must be different pairs of two modalities, got {found}")
    return found


def checked_modalities(features: Mapping[str, Tensor], pairs: Sequence[Pair]) -> dict[str, Tensor]:
    """Return the features, in one dtype; raise if they disagree or a modality is in no pair."""
    if not isinstance(features, Mapping) or not features:
        raise TypeError("features must be a dict of at least one modality's name and features")
    for name, x in features.items():
        validation.check_matrix(name, x)  # None is an error: an absent modality is not in the dict
    found = dict(zip(features, checked_features({}, **features), strict=True))
    for name in found:
        if not any(name in pair for pair in pairs):
            raise ValueError(f"the modality {name!r} is in none of the pairs {pairs}")
    return found


def numbered(
    features: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    indices: Mapping[str, Tensor],
    ids: Mapping[str, Tensor | None],
) -> tuple[dict[str, Tensor | None], dict[str, Tensor], dict[str, Tensor | None]]:
    """Return the numbers, features and ids of the samples that each modality has.

    Returns:
        numbers: of each modality's samples, increasing, or None if it has all samples.
        features, ids: of these samples, in the order of their numbers.
    """
    for name in (*masks, *indices):
        if name not in features:
            raise ValueError(f"there are masks or indices, but no features, of {name!r}")
        if name in masks and name in indices:
            raise ValueError(f"only one of masks and indices can be given for {name!r}")
    whole = [(name, x) for name, x in features.items() if name not in indices]
    for other in whole[1:]:
        validation.check_alike(whole[0], other)
    numbers, found, found_ids = dict.fromkeys(features), dict(features), dict(ids)
    for name, mask in masks.items():
        check_labels(f"masks[{name!r}]", mask, features[name], torch.bool)
        numbers[name] = mask.nonzero()[:, 0]
        found[name] = features[name][numbers[name]]
        found_ids[name] = at_rows(ids[name], numbers[name])
    for name, of_samples in indices.items():
        check_labels(f"indices[{name!r}]", of_samples, features[name])
        numbers[name], order = of_samples.sort()
        if (numbers[name][1:] == numbers[name][:-1]).any():
            raise ValueError(f"indices[{name!r}] must all be different, but one is repeated")
        found[name] = features[name][order]
        found_ids[name] = at_rows(ids[name], order)
    return numbers, found, found_ids


def at_rows(ids: Tensor | None, rows: Tensor) -> Tensor | None:
    """Return the ids of some rows, on the device of `rows`; None if there are no ids."""
    return None if ids is None else ids.to(rows.device)[rows]


def checked_ids(
    ids: Tensor | Mapping[str, Tensor] | None, features: Mapping[str, Tensor]
) -> dict[str, Tensor | None]:
    """Return the ids of each modality's rows, or None; raise if they are wrong or incomplete."""
    if ids is None:
        return dict.fromkeys(features)
    if not isinstance(ids, Mapping):
        for x in features.values():
            check_ids("ids", ids, x)
        return dict.fromkeys(features, ids)
    for name in (*ids, *features):
        if name not in features or name not in ids:
            there, missing = ("ids", "features") if name in ids else ("features", "ids")
            raise ValueError(f"there are {there}, but no {missing}, of {name!r}")
    check_all_ids({f"ids[{name!r}]": (ids[name], x) for name, x in features.items()})
    return {name: ids[name] for name in features}
