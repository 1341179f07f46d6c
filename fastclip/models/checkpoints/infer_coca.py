"""Inferring the configuration of a CoCa model from its shapes, which works for published ones only.

Shapes do not determine the heads of the pooler and of the decoder, nor which query is the feature.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.clip_config import ClipConfig
from fastclip.models.coca.model import CoCa
from fastclip.models.presets import PRESETS
from fastclip.models.towers.text_config import TextTowerConfig
from fastclip.models.unfilled import unfilled

MARKS = ("visual.attn_pool.query", "text.cls_emb", "text_decoder.text_projection")


def is_coca(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has a tensor that only CoCa models have."""
    return any(name in tensors for name in MARKS)


def published_coca(
    tensors: Mapping[str, Tensor], activations: tuple[str, str], heads: tuple[Any, Any]
) -> ClipConfig:
    """Return the published CoCa model whose tensors have the names and shapes of `tensors`.

    Args:
        activations: the activations of the vision and of the text tower.
        heads: the numbers of heads of the vision and of the text tower; None for unknown ones.

    Raises:
        CheckpointError: no published model has these shapes, activations and heads.
    """
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    for published in PRESETS.values():
        if published.multimodal_cfg is None or not _may_have(tensors, published.text_cfg):
            continue
        for config in (published, published.with_quick_gelu()):
            own = config.vision_cfg.heads, config.text_cfg.heads
            agrees = all(a in (None, b) for a, b in zip(heads, own, strict=True))
            pairs = zip(activations, config.activations, strict=True)
            agrees &= all(own in (None, told) for told, own in pairs)
            if agrees and _shapes(config) == shapes:
                return config
    raise CheckpointError(
        "the architecture of this CoCa model cannot be inferred: no published one has these "
        "shapes, activations and heads, and shapes do not determine the heads of the pooler and of "
        "the decoder; give the name or the configuration of the model"
    )


def _may_have(tensors: Mapping[str, Tensor], text: TextTowerConfig) -> bool:
    """Whether tensors may belong to such a text tower; if not, the model is not built."""
    return not text.stands_alone or type(text).has_weights_in(tensors)


def _shapes(config: ClipConfig) -> dict[str, tuple[int, ...]]:
    with unfilled():
        model = CoCa(config)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}
