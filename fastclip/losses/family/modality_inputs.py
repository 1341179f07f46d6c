"""Checks the arguments of a loss of several modalities, by name, pair by pair."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from fastclip.losses.family.common_rows import (
    Pair,
    PairSamples,
    checked_ids,
    checked_modalities,
    checked_pairs,
    numbered,
    samples_of,
)
from fastclip.losses.family.inputs import chosen_scale

Scale = float | Tensor


class ModalityInputs(NamedTuple):
    """The inputs of `fastclip.modalities_loss`.

    Attributes:
        pairs: all pairs of names.
        features: maps each modality that is present to the features of the samples that have it.
        samples: maps each pair whose modalities are both present to its samples.
        scales: maps all pairs to their scales.
        with_ids: whether samples have ids.
    """

    pairs: tuple[Pair, ...]
    features: dict[str, Tensor]
    samples: dict[Pair, PairSamples]
    scales: dict[Pair, Scale]
    with_ids: bool


def modality_inputs(
    features: Mapping[str, Tensor],
    pairs: Sequence[Pair],
    temperature: Scale | None,
    logit_scale: Scale | Mapping[Pair, Scale] | None,
    masks: Mapping[str, Tensor] | None,
    indices: Mapping[str, Tensor] | None,
    ids: Tensor | Mapping[str, Tensor] | None,
) -> ModalityInputs:
    """Return the inputs, checked; raises TypeError or ValueError as `modalities_loss`."""
    pairs = checked_pairs(pairs)
    features = checked_modalities(features, pairs)
    ids = checked_ids(ids, features)
    numbers, features, ids = numbered(features, masks or {}, indices or {}, ids)
    scales = scales_of(pairs, temperature, logit_scale, next(iter(features.values())))
    samples = {
        (a, b): samples_of((a, b), numbers, features, ids)
        for a, b in pairs
        if a in features and b in features
    }
    return ModalityInputs(
        pairs, features, samples, scales, any(x is not None for x in ids.values())
    )


def scales_of(
    pairs: Sequence[Pair],
    temperature: Scale | None,
    logit_scale: Scale | Mapping[Pair, Scale] | None,
    features: Tensor,
) -> dict[Pair, Scale]:
    """Return the scale of each pair, checked by `chosen_scale`."""
    if not isinstance(logit_scale, Mapping):
        return dict.fromkeys(pairs, chosen_scale(temperature, logit_scale, 0.07, features))
    if set(logit_scale) != set(pairs):
        raise ValueError(
            f"logit_scale must have one scale for each of the pairs {tuple(pairs)}, "
            f"got scales for {tuple(logit_scale)}"
        )
    return {pair: chosen_scale(temperature, logit_scale[pair], 0.07, features) for pair in pairs}
