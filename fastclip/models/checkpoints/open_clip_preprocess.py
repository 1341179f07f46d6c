"""Converting between open_clip's settings of preprocessing and fastclip's.

open_clip reads `preprocess_cfg` and nothing else. For a NaFlex model, this field says what
open_clip does with images, which is to squash them to one size. What fastclip does with them is in
a second field, `naflex_preprocess_cfg`.
"""

from collections.abc import Mapping
from typing import Any

from fastclip.data.patches import NAFLEX
from fastclip.data.preprocess import NAFLEX_FIELDS, PreprocessCfg
from fastclip.data.quoting import quoted
from fastclip.models.checkpoints.errors import CheckpointError

PREPROCESS, NAFLEX_PREPROCESS = "preprocess_cfg", "naflex_preprocess_cfg"


def to_open_clip_preprocess(preprocess: PreprocessCfg) -> dict[str, Any]:
    """Return the fields of the file about images; see also `to_transformers_preprocessor`.

    Raises:
        CheckpointError: open_clip cannot prepare images that way.
    """
    values = preprocess.to_dict()
    if preprocess.patches is not None:
        naflex = {name: values.pop(name) for name in NAFLEX_FIELDS}
        return {PREPROCESS: values | {"resize_mode": "squash"}, NAFLEX_PREPROCESS: naflex}
    edge = values.pop("shortest_edge", None)
    if edge is not None and preprocess.height_width != (edge, edge):
        raise CheckpointError(
            f"open_clip cannot resize the shortest edge to {edge} and then crop {preprocess.size}"
        )
    return {PREPROCESS: values}


def from_open_clip_preprocess(
    values: Mapping[str, Any], image_size: tuple[int, int]
) -> PreprocessCfg | None:
    """Return the settings of preprocessing in a file, or None if it has none.

    Args:
        image_size: the size of the model's images, which is used whatever the file says, as in
            open_clip.

    Raises:
        ValueError: a field is not an object where it must be one, a field is unknown, or a value
            is out of its range.
    """
    preprocess, naflex = values.get(PREPROCESS), values.get(NAFLEX_PREPROCESS)
    if preprocess is None:
        return None
    for name, part in ((PREPROCESS, preprocess), (NAFLEX_PREPROCESS, naflex)):
        if not isinstance(part, Mapping | None):
            raise ValueError(f"{name} must be an object, got {quoted(part)}")
    if naflex is not None:
        if unknown := sorted(set(naflex) - set(NAFLEX_FIELDS)):
            raise ValueError(
                f"{NAFLEX_PREPROCESS} has fields that are not supported: {quoted(unknown)}"
            )
        preprocess = preprocess | naflex | {"resize_mode": NAFLEX}
    return PreprocessCfg.from_dict(preprocess | {"size": image_size})
