"""Models and transforms by name, with open_clip's functions and signatures.

What a name may be says `registry.py`. Weights are a tag of `list_pretrained()` or a path.

Weights that are known to be of another activation than the architecture do not load: use the name
with -quickgelu for OpenAI's, MetaCLIP's and DFN's weights.
"""

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from fastclip.data.augment import AugmentationCfg
from fastclip.data.preprocess import (
    EvaluationTransform,
    PreprocessCfg,
    TrainingTransform,
    image_transform_v2,
)
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.files import read_weights_file
from fastclip.models.checkpoints.load import load_source
from fastclip.models.checkpoints.source import Source, read_source
from fastclip.models.checkpoints.two_tower_directory import is_two_tower, read_two_tower
from fastclip.models.clip import CLIP
from fastclip.models.config import ClipConfig, VisionConfig
from fastclip.models.fetch import fetch_repository
from fastclip.models.precision import set_precision
from fastclip.models.presets import preprocess_of
from fastclip.models.published import REPOSITORIES
from fastclip.models.registry import Place, get_model_config, open_clip_name
from fastclip.models.two_tower import CustomTextCLIP, TwoTower


def create_model(
    model_name: str,
    pretrained: str | PathLike | None = None,
    load_weights: bool = True,
    precision: str = "fp32",
    device: str | torch.device = "cpu",
    jit: bool = False,
    force_quick_gelu: bool = False,
    force_custom_text: bool = False,
    force_patch_dropout: float | None = None,
    force_image_size: int | tuple[int, int] | None = None,
    force_preprocess_cfg: Mapping[str, Any] | None = None,
    force_context_length: int | None = None,
    pretrained_image: bool = False,
    pretrained_text: bool = True,
    pretrained_image_path: str | PathLike | None = None,
    pretrained_text_path: str | PathLike | None = None,
    cache_dir: str | PathLike | None = None,
    output_dict: bool = False,
    require_pretrained: bool = False,
    weights_only: bool = True,
    **model_kwargs: Any,
) -> CLIP | TwoTower:
    """Build a model, in training mode, and load weights if there are any.

    Args:
        model_name: see `registry.py`.
        pretrained: a tag or a path; None for random weights. Not with a directory or repository,
            which has its own.
        load_weights: False builds what a directory or repository describes with random weights.
        precision: see `precision.py`.
        jit: not supported; use `torch.compile`.
        pretrained_image: weights of timm for an image tower; there is none of timm's here.
        pretrained_text: accepted; there is no Hugging Face text tower that it would be about.
        weights_only: must be True: no file is allowed to run code.
        force_quick_gelu, force_custom_text, force_patch_dropout, force_image_size,
            force_context_length: changes to the architecture. For another size or length, position
            embeddings are interpolated.
        force_preprocess_cfg: changes to how pictures are prepared.
        pretrained_image_path, pretrained_text_path: weights of one tower alone, loaded last.
        cache_dir: where published weights are kept.
        output_dict: `forward` returns a dict instead of a tuple.
        require_pretrained: raise if there are no weights to load.
        model_kwargs: further fields of `ClipConfig`, such as `init_logit_bias`; weights without a
            bias then get one of 0.

    Returns:
        A model whose `config` is its architecture and whose `visual.preprocess_cfg` says how its
        pictures are prepared; or the `TwoTower` that a directory holds.

    Raises:
        ValueError: no such model or tag, or a setting that is not possible.
        FileNotFoundError: no such file or directory.
        CheckpointError: the weights cannot be fetched or read, or do not fit; its subclasses tell
            refused pickles, wrong activations and keys that do not match apart.
    """
    if jit:
        raise ValueError("jit=True is not supported: torch.compile(model) takes its place")
    if pretrained_image:
        raise ValueError("pretrained_image=True needs a tower of timm's: give it to TwoTower")
    if not weights_only:
        raise ValueError("weights_only=False is not supported: no file is allowed to run code")
    place = Place.of(model_name)
    if place is not None and place.path is not None and is_two_tower(place.path):
        _require_none(
            pretrained=pretrained, force_quick_gelu=force_quick_gelu,
            force_custom_text=force_custom_text, force_patch_dropout=force_patch_dropout,
            force_image_size=force_image_size, force_context_length=force_context_length,
            force_preprocess_cfg=force_preprocess_cfg, pretrained_text_path=pretrained_text_path,
            pretrained_image_path=pretrained_image_path, **model_kwargs,
        )  # fmt: skip
        pair = read_two_tower(place.path, load_weights=load_weights)
        pair.output_dict = output_dict or pair.output_dict
        return set_precision(pair, precision).to(device)
    source = _weights(model_name, pretrained, load_weights, cache_dir)
    if require_pretrained and source is None:
        raise CheckpointError(f"model_name {model_name!r} without weights: give pretrained=")
    config = _changed(
        _architecture(model_name, source), force_quick_gelu, force_custom_text,
        force_patch_dropout, force_image_size, force_context_length, model_kwargs,
    )  # fmt: skip
    wants_bias = model_kwargs.get("init_logit_bias") is not None
    if source is not None and wants_bias and "logit_bias" not in source.tensors:
        # As in open_clip: weights that were trained without a bias go on from none.
        source = source._replace(tensors={**source.tensors, "logit_bias": torch.zeros(())})
    resize = force_image_size is not None or force_context_length is not None
    model = build_model(config, source, resize, output_dict)
    for tower, path in (("visual", pretrained_image_path), ("text", pretrained_text_path)):
        if path is not None:
            _load_tower(model, tower, path)
    preprocess = _preprocess(config, source, force_preprocess_cfg)
    model.visual.preprocess_cfg = preprocess.to_dict()
    model.visual.image_mean, model.visual.image_std = preprocess.mean, preprocess.std
    return set_precision(model, precision).to(device)


def create_model_and_transforms(
    model_name: str,
    pretrained: str | PathLike | None = None,
    *,
    image_mean: tuple[float, ...] | None = None,
    image_std: tuple[float, ...] | None = None,
    image_interpolation: str | None = None,
    image_resize_mode: str | None = None,
    aug_cfg: Mapping[str, Any] | AugmentationCfg | None = None,
    **settings: Any,
) -> tuple[CLIP | CustomTextCLIP, TrainingTransform, EvaluationTransform]:
    """Build a model and the transforms of its pictures for training and for evaluation.

    Args:
        image_mean, image_std, image_interpolation, image_resize_mode: see `PreprocessCfg`.
        aug_cfg: see `AugmentationCfg`.
        settings: see `create_model`.

    Raises:
        as `create_model`.
    """
    changes = _given(
        mean=image_mean, std=image_std, interpolation=image_interpolation,
        resize_mode=image_resize_mode,
    )  # fmt: skip
    model = create_model(model_name, pretrained, force_preprocess_cfg=changes, **settings)
    if not hasattr(model.visual, "preprocess_cfg"):
        raise ValueError(
            f"{model_name} does not say how its images are prepared: use create_model with "
            "transforms of your own, or set model.visual.preprocess_cfg before it is saved"
        )
    cfg = PreprocessCfg.from_dict(model.visual.preprocess_cfg)
    return model, image_transform_v2(cfg, True, aug_cfg), image_transform_v2(cfg, False)


def create_model_from_pretrained(
    model_name: str,
    pretrained: str | PathLike | None = None,
    *,
    return_transform: bool = True,
    **settings: Any,
) -> tuple[CLIP | CustomTextCLIP, EvaluationTransform] | CLIP | CustomTextCLIP:
    """Build a model whose weights must be there, and the transform of its pictures.

    Args:
        return_transform: False returns the model alone.
        settings: see `create_model_and_transforms`.

    Raises:
        as `create_model`; CheckpointError if there are no weights.
    """
    model, _, preprocess = create_model_and_transforms(
        model_name, pretrained, require_pretrained=True, **settings
    )
    return (model, preprocess) if return_transform else model


def build_model(
    config: ClipConfig,
    source: Source | None = None,
    resize: bool = False,
    output_dict: bool = False,
    model_class: type[CLIP] | None = None,
) -> CLIP | CustomTextCLIP:
    """The model of `config`, with random weights or those of `source`, in float32 on the CPU.

    Raises:
        CheckpointError: the weights do not fit.
    """
    cls = model_class or (CustomTextCLIP if config.custom_text else CLIP)
    if source is None:
        return cls(config, output_dict)
    # Random weights that are overwritten would cost most of the time.
    with torch.device("meta"):
        model = cls(config, output_dict)
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in source.tensors.items()}
    load_source(model, source._replace(tensors=tensors), resize=resize, assign=True)
    return model


def _weights(
    model_name: str,
    pretrained: str | PathLike | None,
    load_weights: bool,
    cache_dir: str | PathLike | None,
) -> Source | None:
    place = Place.of(model_name)
    if place is not None:
        if pretrained:
            raise ValueError(f"pretrained={pretrained!r}: {model_name} has weights of its own")
        return read_source(place.directory(cache_dir)) if load_weights else None
    if not pretrained or not load_weights:
        return None
    name = open_clip_name(model_name)
    repository = REPOSITORIES.get(name, {}).get(str(pretrained))
    if repository is not None:
        return read_source(fetch_repository(repository, cache_dir))
    if not Path(pretrained).exists():
        tags = ", ".join(REPOSITORIES.get(name, {})) or "none"
        raise ValueError(f"pretrained={pretrained!r} is neither a file nor a tag; tags: {tags}")
    return read_source(pretrained)


def _architecture(model_name: str, source: Source | None) -> ClipConfig:
    if source is not None and Place.of(model_name) is not None:
        return source.config_or_inferred()
    return get_model_config(model_name)


def _changed(
    config: ClipConfig,
    force_quick_gelu: bool,
    force_custom_text: bool,
    force_patch_dropout: float | None,
    force_image_size: int | tuple[int, int] | None,
    force_context_length: int | None,
    fields: dict[str, Any],
) -> ClipConfig:
    vision = _given(patch_dropout=force_patch_dropout, image_size=force_image_size)
    text = _given(context_length=force_context_length)
    if force_quick_gelu:
        text["activation"] = "quick_gelu"
        if isinstance(config.vision_cfg, VisionConfig):
            vision["activation"] = "quick_gelu"
    if force_custom_text:
        fields = {"custom_text": True, **fields}
    return replace(
        config,
        vision_cfg=replace(config.vision_cfg, **vision),
        text_cfg=replace(config.text_cfg, **text),
        **fields,
    )


def _preprocess(
    config: ClipConfig, source: Source | None, changes: Mapping[str, Any] | None
) -> PreprocessCfg:
    known = None if source is None else source.preprocess
    preprocess = (known or preprocess_of(config)).with_size(config.vision_cfg.image_size)
    return PreprocessCfg.from_dict(preprocess.to_dict() | dict(changes or {}))


def _load_tower(model: CLIP | CustomTextCLIP, tower: str, path: str | PathLike) -> None:
    # The text tower of `CLIP` is what is neither the image tower nor the scale.
    is_flat_text = tower == "text" and not hasattr(model, "text")
    others = ("visual.", "logit_") if is_flat_text else ()
    prefix = "" if is_flat_text else f"{tower}."
    tensors = {
        f"{prefix}{name.removeprefix(f'{tower}.')}": value
        for name, value in read_weights_file(path).tensors.items()
    }
    rest = {
        name: value
        for name, value in model.state_dict().items()
        if (name.startswith(others) if is_flat_text else not name.startswith(prefix))
    }
    load_source(model, Source(tensors | rest, None, None, None, None))


def _require_none(**settings: Any) -> None:
    for name, value in settings.items():
        if value:
            raise ValueError(f"{name}={value!r}: a TwoTower is made as it was written")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
