"""The model of a run, with what turns its data into tensors."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor, nn

from fastclip.data.digits import load_digits, split_by_image
from fastclip.data.grids import DigitGrids
from fastclip.data.pixels import DIGIT_MEAN, DIGIT_STD
from fastclip.data.preprocess import PreprocessCfg, image_transform_v2
from fastclip.models.config import SIGLIP_LOGIT_BIAS, SIGLIP_LOGIT_SCALE
from fastclip.models.factory import build_model, create_model
from fastclip.models.tokenizer import get_tokenizer
from fastclip.train.digits_model import digits_config, digits_tokenizer
from fastclip.train.run_config import RunConfig

DIGITS = "digits"


class RunModel(NamedTuple):
    """Attributes:
    model: in training mode, on the CPU.
    train_transform, val_transform: to uint8 pixels; None for data that is such already.
    mean, std: of the pixels, for the device.
    """

    model: nn.Module
    tokenizer: Callable[[list[str]], Tensor]
    train_transform: Callable[[Any], Tensor] | None
    val_transform: Callable[[Any], Tensor] | None
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]


def make_model(config: RunConfig) -> RunModel:
    """Build `config.model`; "digits" is the small one of the built-in data.

    Raises:
        ValueError, OSError, CheckpointError: see `create_model` and `get_tokenizer`.
    """
    if config.model == DIGITS:
        made = _digits(config.force_patch_dropout or 0.0)
    else:
        kwargs = {"init_logit_scale": SIGLIP_LOGIT_SCALE, "init_logit_bias": SIGLIP_LOGIT_BIAS}
        model = create_model(
            config.model, config.pretrained, force_patch_dropout=config.force_patch_dropout,
            force_image_size=config.force_image_size, force_quick_gelu=config.force_quick_gelu,
            **(kwargs if config.siglip and config.pretrained is None else {}),
        )  # fmt: skip
        cfg = PreprocessCfg.from_dict(model.visual.preprocess_cfg)
        made = RunModel(
            model, get_tokenizer(config.model),
            image_transform_v2(cfg, True, output="uint8"),
            image_transform_v2(cfg, False, output="uint8"), cfg.mean, cfg.std,
        )  # fmt: skip
    if config.lock_image:
        made.model.lock_image_tower(config.lock_image_unlocked_groups)
    if config.lock_text:
        made.model.lock_text_tower(config.lock_text_unlocked_layers)
    made.model.set_grad_checkpointing(config.grad_checkpointing)
    return made


def _digits(patch_dropout: float) -> RunModel:
    digits, _ = split_by_image(load_digits())
    tokenizer = digits_tokenizer(DigitGrids(digits))
    config = digits_config(tokenizer)
    vision = replace(config.vision_cfg, patch_dropout=patch_dropout)
    model = build_model(replace(config, vision_cfg=vision))
    return RunModel(model, tokenizer, None, None, DIGIT_MEAN, DIGIT_STD)
