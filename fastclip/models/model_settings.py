"""The settings of a model's inputs: how images are prepared, how long texts are.

They are attributes of the towers, with open_clip's names.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn


def get_model_preprocess_cfg(model: nn.Module) -> dict[str, Any]:
    """Return how the images of `model` are prepared, under the names of `PreprocessCfg`.

    Args:
        model: a pair of towers, whose `visual` is used, or an image tower.

    Returns:
        A copy of the tower's `preprocess_cfg`; without one, the values of its `image_size`,
        `image_mean` and `image_std`.

    Example:
        >>> fastclip.get_model_preprocess_cfg(model)["mean"]
        (0.48145466, 0.4578275, 0.40821073)
    """
    tower = getattr(model, "visual", model)
    cfg = getattr(tower, "preprocess_cfg", None)
    if cfg:
        return dict(cfg)
    attributes = {"size": "image_size", "mean": "image_mean", "std": "image_std"}
    found = {name: getattr(tower, attribute, None) for name, attribute in attributes.items()}
    return {name: value for name, value in found.items() if value is not None}


def set_model_preprocess_cfg(model: nn.Module, preprocess_cfg: Mapping[str, Any]) -> None:
    """Set how the images of `model` are prepared; `save_pretrained` stores these settings.

    Args:
        model: a pair of towers, or an image tower.
        preprocess_cfg: settings under the names of `PreprocessCfg`; at least `mean` and `std`.

    Raises:
        ValueError: there is no `mean` or no `std`.

    Example:
        >>> fastclip.set_model_preprocess_cfg(model, {"mean": (0.5,) * 3, "std": (0.5,) * 3})
    """
    missing = [name for name in ("mean", "std") if name not in preprocess_cfg]
    if missing:
        raise ValueError(
            f"preprocess_cfg must have {' and '.join(missing)}, got {preprocess_cfg!r}"
        )
    tower = getattr(model, "visual", model)
    tower.preprocess_cfg = dict(preprocess_cfg)
    tower.image_mean, tower.image_std = preprocess_cfg["mean"], preprocess_cfg["std"]


def get_model_tokenize_cfg(model: nn.Module) -> dict[str, int]:
    """Return the `context_length` and the `vocab_size` of the text tower of `model`.

    Example:
        >>> fastclip.get_model_tokenize_cfg(fastclip.create_model("ViT-B-32"))
        {'context_length': 77, 'vocab_size': 49408}
    """
    tower = getattr(model, "text", model)
    sizes = {name: getattr(tower, name, None) for name in ("context_length", "vocab_size")}
    return {name: size for name, size in sizes.items() if size is not None}
