"""The model of a run, with the tokenizer and the transforms that turn data into its inputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from fastclip.data.digits.images import DIGIT_MEAN, DIGIT_STD
from fastclip.data.preprocess import PreprocessCfg, image_transform_v2
from fastclip.models import digits
from fastclip.models.coca.vocabulary import require_tokenizer
from fastclip.models.config import SIGLIP_LOGIT_BIAS, SIGLIP_LOGIT_SCALE
from fastclip.models.factory import create_model
from fastclip.models.precision import set_precision
from fastclip.models.presets import preprocess_of
from fastclip.models.registry import Place, get_model_config
from fastclip.models.tokenizer import get_tokenizer
from fastclip.train.settings.model_config import ModelConfig


class RunModel(NamedTuple):
    """Attributes:
    model: in training mode, on the CPU.
    train_transform, val_transform: turn images into uint8 pixels; None for data that is already
        uint8 pixels.
    mean, std: standardise the pixels, on the device.
    """

    model: nn.Module
    tokenizer: Callable[[list[str]], Tensor]
    train_transform: Callable[[Any], Tensor] | None
    val_transform: Callable[[Any], Tensor] | None
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]


def make_model(config: ModelConfig, precision: str = "fp32") -> RunModel:
    """Build `config.model`; "digits" is the small model for the built-in data.

    Args:
        precision: of the parameters, see `fastclip.models.precision`.

    Raises:
        ValueError, TypeError, OSError, CheckpointError: see `create_model`, `get_tokenizer` and
            `AugmentationCfg`.
    """
    if config.pretrained_text and config.pretrained is None:
        _require_weights_of_text(config.model)
    if config.model == digits.NAME:
        if config.decode != "exact":
            raise ValueError(
                f"--decode must be exact with --model digits, whose images are not files, got "
                f"{config.decode}"
            )
        model, tokenizer = digits.build_digits_model(config.force_patch_dropout or 0.0)
        set_precision(model, precision)
        run_model = RunModel(model, tokenizer, None, None, DIGIT_MEAN, DIGIT_STD)
    else:
        run_model = _named(config, precision)
    prepare_for_training(run_model.model, config)
    return run_model


def prepare_for_training(model: nn.Module, config: ModelConfig) -> None:
    """Freeze the towers that the settings lock, and turn gradient checkpointing on or off."""
    if config.lock_image:
        model.lock_image_tower(config.lock_image_unlocked_groups, config.lock_image_freeze_bn_stats)
    if config.lock_text:
        model.lock_text_tower(config.lock_text_unlocked_layers)
    model.set_grad_checkpointing(config.grad_checkpointing)


def _named(config: ModelConfig, precision: str) -> RunModel:
    if config.image_resize_mode is None and Place.of(config.model) is None:
        _require_one_size(config, preprocess_of(get_model_config(config.model)))
    # First, because a download may fail: without a tokenizer the run cannot begin.
    tokenizer = get_tokenizer(config.model, config.force_context_length, config.cache_dir)
    beginning = {}
    if config.siglip:
        beginning = {
            "init_logit_scale": SIGLIP_LOGIT_SCALE, "init_logit_bias": SIGLIP_LOGIT_BIAS
        }  # fmt: skip
    preprocess = {
        "mean": _one_or_all(config.image_mean), "std": _one_or_all(config.image_std),
        "interpolation": config.image_interpolation, "resize_mode": config.image_resize_mode,
    }  # fmt: skip
    model = create_model(
        config.model, config.pretrained, precision=precision,
        force_quick_gelu=config.force_quick_gelu, force_custom_text=config.force_custom_text,
        force_patch_dropout=config.force_patch_dropout,
        force_image_size=_one_or_all(config.force_image_size),
        force_context_length=config.force_context_length,
        force_preprocess_cfg={k: v for k, v in preprocess.items() if v is not None},
        cache_dir=config.cache_dir, pretrained_text=config.pretrained_text, **beginning,
    )  # fmt: skip
    require_tokenizer(model, tokenizer, config.model)
    cfg = PreprocessCfg.from_dict(model.visual.preprocess_cfg)
    _require_one_size(config, cfg)
    return RunModel(
        model, tokenizer,
        image_transform_v2(cfg, True, config.aug_cfg, "uint8", config.decode),
        image_transform_v2(cfg, False, None, "uint8", config.decode), cfg.mean, cfg.std,
    )  # fmt: skip


def _require_one_size(config: ModelConfig, cfg: PreprocessCfg) -> None:
    """Raise ValueError unless images that are prepared this way all have the same size."""
    if cfg.patches is not None:
        size = config.force_image_size or cfg.height_width
        height, width = (*size, *size)[:2]
        raise ValueError(
            f"{config.model} prepares images at their own aspect ratios, but fastclip train needs "
            "images of one size: --image-resize-mode squash trains and evaluates the model on "
            f"images of {height} x {width} pixels; docs/naflex.md shows how to write a loop of "
            "your own for images of different sizes"
        )


def _require_weights_of_text(name: str) -> None:
    """Raise ValueError unless the model has no weights and its text tower alone is published."""
    if Place.of(name) is not None:
        raise ValueError(f"--pretrained-text must be left out: {name} comes with its weights")
    if name == digits.NAME or not get_model_config(name).text_cfg.is_published_alone:
        raise ValueError(
            f"--pretrained-text must be left out: the text tower of {name} is not an encoder of "
            "transformers with weights of its own"
        )


def _one_or_all(values: tuple | None) -> Any:
    """Return the value of a flag that takes one or several: the only value, or the tuple."""
    return values[0] if values is not None and len(values) == 1 else values
