"""Converting tensors between fastclip and transformers' CLIP, SigLIP, SigLIP 2 and TIPS models.

One table serves both directions; `correspondence.py` explains its rows. Each tower has the rows of
its own tensors (`transformers_rows`), and the rows of the whole model are here. CLIPVisionModel,
SiglipVisionModel, Siglip2VisionModel and Tipsv2VisionModel have the rows of the image tower,
without its projection.

Source: the state dicts of transformers 5.23 and open_clip_torch 3.3.0; strict loading in the tests
verifies every row.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastclip.models.checkpoints.correspondence import Correspondence, layer, scalar, transposed
from fastclip.models.checkpoints.errors import CheckpointError, KeyMismatchError
from fastclip.models.clip_config import ClipConfig
from fastclip.models.towers.naflex.config import NaflexConfig
from fastclip.models.towers.tips.config import TipsVisionConfig
from fastclip.models.towers.tips.names import published
from fastclip.models.towers.vision_transformer.config import VisionConfig

VISION_PREFIXES = ("vision_model.", "vision_encoder.")


def to_transformers(tensors: dict[str, Tensor], config: ClipConfig) -> dict[str, Tensor]:
    """Rename and reshape fastclip's tensors to transformers'.

    Raises:
        CheckpointError: transformers has no such model; the message says what it lacks.
        KeyMismatchError: `tensors` are not the tensors of a model of `config`.
    """
    return _rewrite(tensors, [(row.ours, row.theirs, row.to_theirs) for row in _table(config)])


def to_transformers_vision(tensors: dict[str, Tensor], config: ClipConfig) -> dict[str, Tensor]:
    """Rename and reshape the image tower's tensors for transformers' vision model.

    Args:
        tensors: of the model, or of its image tower alone, named `visual.*`; others are left out.

    Raises:
        CheckpointError: transformers has no such tower; the message says what it lacks.
        KeyMismatchError: a tensor of the tower is missing from `tensors`.
    """
    family = FAMILIES.get(config.vision_cfg.transformers_model)
    if family is None:
        raise _no_such_model([f"its CLIPVisionModel has no {config.vision_cfg.kind}"])
    if lacking := family.what_vision_lacks(config.vision_cfg):
        raise _no_such_model(
            [f"its {family.vision_model} has no place for {what}" for what in lacking]
        )
    rows = [row for row in config.vision_cfg.transformers_rows() if _is_of_vision_model(row)]
    wanted = {name for row in rows for name in row.ours}
    kept = {name: value for name, value in tensors.items() if name in wanted}
    return _rewrite(kept, [(row.ours, row.theirs, row.to_theirs) for row in rows])


def _is_of_vision_model(row: Correspondence) -> bool:
    return all(name.startswith(VISION_PREFIXES) for name in row.theirs)


def from_transformers(tensors: dict[str, Tensor], config: ClipConfig) -> dict[str, Tensor]:
    """Rename and reshape transformers' tensors to fastclip's.

    Raises:
        CheckpointError: transformers has no such model.
        KeyMismatchError: `tensors` are not the tensors of a model of `config`.
    """
    table = list(_table(config))
    tensors = FAMILIES[config.vision_cfg.transformers_model].as_written(tensors, config)
    return _rewrite(tensors, [(row.theirs, row.ours, row.to_ours) for row in table])


def _rewrite(tensors: dict[str, Tensor], steps: list[tuple]) -> dict[str, Tensor]:
    """Rename and convert tensors; a step is (names before, names after, conversion)."""
    wanted = {name for before, _, _ in steps for name in before}
    missing, unexpected = sorted(wanted - set(tensors)), sorted(set(tensors) - wanted)
    if missing or unexpected:
        raise KeyMismatchError(missing, unexpected, [])
    return {
        name: part.contiguous()
        for before, after, way in steps
        for name, part in _parts(tensors, before, after, way)
    }


def _parts(
    tensors: dict[str, Tensor], before: tuple[str, ...], after: tuple[str, ...], way: Callable
) -> list[tuple[str, Tensor]]:
    try:
        return list(zip(after, way(*(tensors[name] for name in before)), strict=True))
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        shapes = ", ".join(f"{name} of {tuple(tensors[name].shape)}" for name in before)
        raise CheckpointError(f"the weights have shapes that no model has: {shapes}") from error


def _table(config: ClipConfig) -> Iterator[Correspondence]:
    family = FAMILIES.get(config.vision_cfg.transformers_model)
    if family is None:
        lacking = [f"its CLIPModel has no {config.vision_cfg.kind}"]
    elif config.vision_cfg.transformers_model not in config.text_cfg.transformers_models:
        lacking = [f"none of its models has a {config.text_cfg.kind}"]
    else:
        lacking = family.what_it_lacks(config)
    if lacking:
        raise _no_such_model(lacking)
    return family.rows(config)


def _no_such_model(lacking: list[str]) -> CheckpointError:
    return CheckpointError(f"transformers has no model like this one: {'; '.join(lacking)}")


def _what_clips_vision_lacks(vision: VisionConfig) -> list[str]:
    objections = {
        "a vision tower without ln_pre": vision.no_ln_pre,
        "averaged patches": vision.pool_type != "tok",
        "grey images": vision.channels != 3,
        "LayerScale": vision.ls_init_value is not None,
    }
    return [what for what, holds in objections.items() if holds]


def _what_clip_lacks(config: ClipConfig) -> list[str]:
    text = config.text_cfg
    objections = dict.fromkeys(_what_clips_vision_lacks(config.vision_cfg), True) | {
        "LayerScale in the text tower": text.ls_init_value is not None,
        "a text tower without causal mask": text.no_causal_mask,
        f"text pooling by {text.pool_type}": text.pool_type not in ("argmax", "eos"),
        "a text tower without projection": text.proj_type != "linear",
        "a text projection with bias": text.proj_bias,
        "a logit_bias": config.init_logit_bias is not None,
    }
    return [f"its CLIPModel has no place for {what}" for what, holds in objections.items() if holds]


def _what_siglip_lacks(config: ClipConfig, model: str = "SiglipModel") -> list[str]:
    text = config.text_cfg
    is_siglip_text = text.no_causal_mask and text.pool_type == "last" and text.proj_bias
    fits = config.custom_text and is_siglip_text and config.init_logit_bias is not None
    return [] if fits else [f"its {model} has one kind of text tower, and this model another"]


def _what_naflex_lacks(vision: NaflexConfig) -> list[str]:
    rows, columns = vision.position_grid
    return [] if rows == columns else [f"positions on a grid of {rows} x {columns}, not a square"]


def _what_siglip2_lacks(config: ClipConfig) -> list[str]:
    lacking = [
        f"its Siglip2Model has no place for {w}" for w in _what_naflex_lacks(config.vision_cfg)
    ]
    return _what_siglip_lacks(config, "Siglip2Model") + lacking


def _clip(config: ClipConfig) -> Iterator[Correspondence]:
    text = "text." if config.custom_text else ""
    # One number, of shape () or (1,) here.
    yield Correspondence(
        ("logit_scale",), ("logit_scale",), lambda x: (x.reshape(()),), lambda x: (x,)
    )
    yield from config.text_cfg.transformers_rows(text)
    yield transposed(f"{text}text_projection", "text_projection.weight")
    yield from config.vision_cfg.transformers_rows()


def _siglip(config: ClipConfig) -> Iterator[Correspondence]:
    yield scalar("logit_scale")
    yield scalar("logit_bias")
    yield from config.text_cfg.transformers_rows("text.")
    yield from layer("text.text_projection", "text_model.head")
    yield from config.vision_cfg.transformers_rows()


def _what_tipss_vision_lacks(vision: TipsVisionConfig) -> list[str]:
    height, width = vision.image_size
    return [] if height == width else ["positions of images that are not square"]


def _what_tips_lacks(config: ClipConfig) -> list[str]:
    objections = dict.fromkeys(_what_tipss_vision_lacks(config.vision_cfg), True) | {
        "the second class token as the feature of an image": (
            config.vision_cfg.feature_token != "alt_text"
        ),
        "a logit_bias": config.init_logit_bias is not None,
    }
    return [
        f"its Tipsv2Model has no place for {what}" for what, holds in objections.items() if holds
    ]


def _tips(config: ClipConfig) -> Iterator[Correspondence]:
    shape = (1,) if config.nonscalar_logit_scale else ()
    # The temperature is 1 / scale. It is computed in float64, so the logarithm of the scale
    # survives a round trip unchanged if it is at least 1 (a scale of e) and the temperature is a
    # normal number. A logarithm nearer to 0 is restored up to the rounding of a temperature near 1,
    # 6e-8 in float32.
    yield Correspondence(
        ("logit_scale",), ("temperature",),
        lambda x: (x.double().neg().exp().reshape(()).to(x.dtype),),
        lambda x: (x.double().log().neg().reshape(shape).to(x.dtype),),
    )  # fmt: skip
    yield from config.text_cfg.transformers_rows("text.")
    yield from config.vision_cfg.transformers_rows()


def _tips_as_written(tensors: dict[str, Tensor], config: ClipConfig) -> dict[str, Tensor]:
    """Add the temperature, which TIPS's published files leave out: `config.json` states it."""
    told = {"temperature": torch.tensor(math.exp(-config.init_logit_scale))}
    return told | published(tensors)


class Family(NamedTuple):
    """One of transformers' models.

    Attributes:
        what_it_lacks: lists what a pair of towers has that transformers' model has no place for.
        rows: the rows of the table for a pair; only if `what_it_lacks` is empty for it.
        vision_model: the name of the class for the image tower alone.
        what_vision_lacks: lists what an image tower has that this class has no place for.
        as_written: renames a file's tensors as in the table and adds the ones that it leaves out.
    """

    what_it_lacks: Callable[[ClipConfig], list[str]]
    rows: Callable[[ClipConfig], Iterator[Correspondence]]
    vision_model: str
    what_vision_lacks: Callable[[Any], list[str]]
    as_written: Callable[[dict[str, Tensor], ClipConfig], dict[str, Tensor]] = (
        lambda tensors, config: tensors
    )


# The families by `model_type`.
FAMILIES = {
    "clip": Family(_what_clip_lacks, _clip, "CLIPVisionModel", _what_clips_vision_lacks),
    "siglip": Family(_what_siglip_lacks, _siglip, "SiglipVisionModel", lambda vision: []),
    "siglip2": Family(_what_siglip2_lacks, _siglip, "Siglip2VisionModel", _what_naflex_lacks),
    "tipsv2": Family(
        _what_tips_lacks, _tips, "Tipsv2VisionModel", _what_tipss_vision_lacks, _tips_as_written
    ),
}
