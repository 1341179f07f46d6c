"""The model of a run, with what turns its data into tensors."""

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
    train_transform, val_transform: to uint8 pixels; None for data that is such already.
    mean, std: of the pixels, for the device.
    """

    model: nn.Module
    tokenizer: Callable[[list[str]], Tensor]
    train_transform: Callable[[Any], Tensor] | None
    val_transform: Callable[[Any], Tensor] | None
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]


def make_model(config: ModelConfig, precision: str = "fp32") -> RunModel:
    """Build `config.model`; "digits" is the small one of the built-in data.

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
            raise ValueError("--decode must be exact for the model digits: its images are no files")
        model, tokenizer = digits.build_digits_model(config.force_patch_dropout or 0.0)
        set_precision(model, precision)
        run_model = RunModel(model, tokenizer, None, None, DIGIT_MEAN, DIGIT_STD)
    else:
        run_model = _named(config, precision)
    prepare_for_training(run_model.model, config)
    return run_model


def prepare_for_training(model: nn.Module, config: ModelConfig) -> None:
    """Freeze what is to be locked, and say how the backward is computed."""
    if config.lock_image:
        model.lock_image_tower(config.lock_image_unlocked_groups, config.lock_image_freeze_bn_stats)
    if config.lock_text:
        model.lock_text_tower(config.lock_text_unlocked_layers)
    model.set_grad_checkpointing(config.grad_checkpointing)


def _named(config: ModelConfig, precision: str) -> RunModel:
    if config.image_resize_mode is None and Place.of(config.model) is None:
        _require_one_size(config, preprocess_of(get_model_config(config.model)))
    # First, because it may have to be fetched: a run without one is over before it has begun.
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
    """Raise unless images all have one size when they are prepared that way."""
    if cfg.patches is not None:
        size = config.force_image_size or cfg.height_width
        height, width = (*size, *size)[:2]
        raise ValueError(
            f"{config.model} prepares images at their own aspect ratios, and fastclip train takes "
            "images of one size: --image-resize-mode squash trains and evaluates it on images of "
            f"{height} x {width} pixels; for batches of different sizes, docs/naflex.md has a loop "
            "of your own"
        )


def _require_weights_of_text(name: str) -> None:
    """Raise unless a model begins without weights, and there are some of its text tower alone."""
    if Place.of(name) is not None:
        raise ValueError(f"--pretrained-text: {name} has weights of its own")
    if name == digits.NAME or not get_model_config(name).text_cfg.is_published_alone:
        raise ValueError(f"--pretrained-text: the text tower of {name} is not of transformers")


def _one_or_all(values: tuple | None) -> Any:
    """A flag that takes one value or several has a tuple in either case."""
    return values[0] if values is not None and len(values) == 1 else values
