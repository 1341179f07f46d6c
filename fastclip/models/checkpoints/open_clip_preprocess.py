"""How images are prepared, as open_clip's file says it, and our settings, each from the other.

open_clip's reader takes `preprocess_cfg` and looks at nothing beside it. Of a NaFlex model it says
there what open_clip does with images, which is to squash them to one size; what is done here stands
beside it, as `naflex_preprocess_cfg`.
"""

from collections.abc import Mapping
from typing import Any

from fastclip.data.patches import NAFLEX
from fastclip.data.preprocess import NAFLEX_FIELDS, PreprocessCfg
from fastclip.data.quoting import quoted
from fastclip.models.checkpoints.errors import CheckpointError

PREPROCESS, NAFLEX_PREPROCESS = "preprocess_cfg", "naflex_preprocess_cfg"


def to_open_clip_preprocess(preprocess: PreprocessCfg) -> dict[str, Any]:
    """Return what the file says of images; see `to_transformers_preprocessor` too.

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
            f"open_clip cannot resize the shortest edge to {edge} and crop {preprocess.size}"
        )
    return {PREPROCESS: values}


def from_open_clip_preprocess(
    values: Mapping[str, Any], image_size: tuple[int, int]
) -> PreprocessCfg | None:
    """Return the settings that a file holds, or None if it says nothing of images.

    Args:
        image_size: that the model takes, and that counts, as in open_clip, whatever is written.

    Raises:
        ValueError: there is no object where one must be, a field is unknown, or a value is out of
            its range.
    """
    preprocess, naflex = values.get(PREPROCESS), values.get(NAFLEX_PREPROCESS)
    if preprocess is None:
        return None
    for name, part in ((PREPROCESS, preprocess), (NAFLEX_PREPROCESS, naflex)):
        if not isinstance(part, Mapping | None):
            raise ValueError(f"{name} must be an object, got {quoted(part)}")
    if naflex is not None:
        if unknown := sorted(set(naflex) - set(NAFLEX_FIELDS)):
            raise ValueError(f"{NAFLEX_PREPROCESS}: {quoted(unknown)} not supported")
        preprocess = preprocess | naflex | {"resize_mode": NAFLEX}
    return PreprocessCfg.from_dict(preprocess | {"size": image_size})
