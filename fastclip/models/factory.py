"""Creating models and transforms by name, with open_clip's functions and signatures.

`registry.py` explains which names there are. Weights are a tag of `list_pretrained()` or a path.

Weights that are known to have another activation than the architecture do not load: use the name
with -quickgelu for OpenAI's, MetaCLIP's and DFN's weights.
"""

from collections.abc import Mapping
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from fastclip.data.augment import AugmentationCfg
from fastclip.data.patches import NAFLEX
from fastclip.data.preprocess import (
    NAFLEX_FIELDS,
    EvaluationTransform,
    PreprocessCfg,
    TrainingTransform,
    image_transform_v2,
)
from fastclip.models.build import build_model, changed_config, given, load_tower
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.load import require_weights_only
from fastclip.models.checkpoints.stored_model import StoredModel, read_stored_model
from fastclip.models.checkpoints.two_tower_directory import is_two_tower, read_two_tower
from fastclip.models.clip import CLIP
from fastclip.models.clip_config import ClipConfig
from fastclip.models.fetch import download_pretrained_from_hf, fetch_repository
from fastclip.models.model_settings import get_model_preprocess_cfg, set_model_preprocess_cfg
from fastclip.models.precision import set_precision
from fastclip.models.presets import preprocess_of
from fastclip.models.pretrained import clean_tag, get_pretrained_cfg
from fastclip.models.published import REPOSITORIES
from fastclip.models.registry import (
    Place,
    get_model_config,
    is_configuration_file,
    open_clip_name,
    read_configuration_file,
)
from fastclip.models.towers.image_config import ImageTowerConfig
from fastclip.models.towers.naflex.config import NaflexConfig
from fastclip.models.towers.timm.config import TimmConfig
from fastclip.models.tracing import trace_model
from fastclip.models.two_tower import CustomTextCLIP, TwoTower


def create_model(
    model_name: str,
    pretrained: str | PathLike | None = None,
    load_weights: bool | str = True,
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
    pretrained_text: bool = False,
    pretrained_image_path: str | PathLike | None = None,
    pretrained_text_path: str | PathLike | None = None,
    cache_dir: str | PathLike | None = None,
    output_dict: bool | None = None,
    require_pretrained: bool = False,
    weights_only: bool = True,
    **model_kwargs: Any,
) -> CLIP | TwoTower | torch.jit.ScriptModule:
    """Build a model, in training mode, and load weights if there are any.

    Args:
        model_name: the name of an architecture, a directory or a repository, see `registry.py`.
        pretrained: a tag or a path; None for random weights. It must not be given with a directory
            or repository, which has its own weights.
        load_weights: False gives the model of a directory or repository random weights. A string
            here is taken as the precision, which was the third argument in open_clip 2.
        precision: see `precision.py`.
        jit: return the TorchScript program of `trace_model` instead, which computes as the model
            does in evaluation mode.
        pretrained_image: if no other weights are loaded into an image tower of timm's, load the
            weights that timm publishes under its name; timm fetches them.
        pretrained_text: if no weights are given, load the published weights of a transformers text
            tower's encoder, from the directory or repository that `hf_model_name` names. Other
            towers have none. In open_clip this is the default; fastclip fetches nothing unless it
            is asked to. The older name `pretrained_hf` is accepted too.
        weights_only: must be True, because no file is allowed to run code.
        force_quick_gelu, force_custom_text, force_patch_dropout: changes to the architecture.
        force_image_size, force_context_length: changes to the architecture, for which position
            embeddings are interpolated.
        force_preprocess_cfg: changes to how images are prepared.
        pretrained_image_path, pretrained_text_path: weights of one tower alone, loaded last.
        cache_dir: where published weights are kept.
        output_dict: `forward` returns a dict instead of a tuple. The default is False, or the saved
            value if a directory holds a `TwoTower`.
        require_pretrained: raise if there are no weights to load.
        model_kwargs: further fields of `ClipConfig`, such as `nonscalar_logit_scale`, or
            `init_logit_bias`; weights without a bias then get a bias of 0.

    Returns:
        A model whose `config` is its architecture and whose `visual.preprocess_cfg` says how its
        images are prepared; or the `TwoTower` that a directory holds.

    Raises:
        TypeError: `load_weights` and `precision` are both a precision, or an argument is unknown.
        ValueError: there is no such model or tag, or a setting is not possible.
        FileNotFoundError: there is no such file or directory.
        CheckpointError: the weights cannot be fetched or read, or do not fit; its subclasses
            distinguish refused pickles, wrong activations and keys that do not match.

    Example:
        >>> model = fastclip.create_model("ViT-B-32", pretrained="laion2b_s34b_b79k")
        >>> model = fastclip.create_model("local-dir:my-model")      # what save_pretrained wrote
    """
    load_weights, precision = _weights_or_precision(load_weights, precision)
    pretrained_text = model_kwargs.pop("pretrained_hf", pretrained_text)
    _require_fields(model_kwargs)
    require_weights_only(weights_only)
    place = Place.of(model_name)
    if place is not None and place.path is not None and is_two_tower(place.path):
        _require_none(
            pretrained=pretrained, force_quick_gelu=force_quick_gelu, jit=jit,
            force_custom_text=force_custom_text, force_patch_dropout=force_patch_dropout,
            force_image_size=force_image_size, force_context_length=force_context_length,
            force_preprocess_cfg=force_preprocess_cfg, pretrained_text_path=pretrained_text_path,
            pretrained_image_path=pretrained_image_path, pretrained_image=pretrained_image,
            **model_kwargs,
        )  # fmt: skip
        pair = read_two_tower(place.path, load_weights=load_weights)
        if output_dict is not None:
            pair.output_dict = output_dict
        return set_precision(pair, precision).to(device)
    stored = _weights(model_name, pretrained, load_weights, cache_dir)
    if require_pretrained and stored is None:
        raise CheckpointError(
            f"model_name {model_name!r} is given without weights: give pretrained=, a tag of "
            "list_pretrained() or a file of weights"
        )
    config = changed_config(
        _architecture(model_name, stored), force_quick_gelu, force_custom_text,
        force_patch_dropout, force_image_size, force_context_length, model_kwargs,
    )  # fmt: skip
    if pretrained_image and not isinstance(config.vision_cfg, TimmConfig):
        raise ValueError(
            f"pretrained_image=True is not possible: {model_name} has no image tower of timm's"
        )
    wants_bias = model_kwargs.get("init_logit_bias") is not None
    if stored is not None and wants_bias and "logit_bias" not in stored.tensors:
        # As in open_clip: weights that were trained without a bias start with a bias of 0.
        stored = stored._replace(tensors={**stored.tensors, "logit_bias": torch.zeros(())})
    resize = force_image_size is not None or force_context_length is not None
    model = build_model(config, stored, resize, bool(output_dict))
    if pretrained_text and stored is None and pretrained_text_path is None:
        config.text_cfg.load_published(getattr(model, "text", model), cache_dir)
    if pretrained_image and stored is None and pretrained_image_path is None:
        model.visual.load_published_trunk(cache_dir)
    for tower, path in (("visual", pretrained_image_path), ("text", pretrained_text_path)):
        if path is not None:
            load_tower(model, tower, path)
    told = get_pretrained_cfg(model_name, str(pretrained)) if stored is not None else {}
    known = None if stored is None else stored.preprocess
    if known is None and is_configuration_file(model_name):
        known = read_configuration_file(model_name)[1]
    preprocess = _preprocess(config, known, told, force_preprocess_cfg)
    set_model_preprocess_cfg(model, preprocess.to_dict())
    model = set_precision(model, precision).to(device)
    return trace_model(model, batch_size=2, device=device) if jit else model


def create_model_and_transforms(
    model_name: str,
    pretrained: str | PathLike | None = None,
    load_weights: bool | str = True,
    precision: str = "fp32",
    device: str | torch.device = "cpu",
    jit: bool = False,
    force_quick_gelu: bool = False,
    force_custom_text: bool = False,
    force_patch_dropout: float | None = None,
    force_image_size: int | tuple[int, int] | None = None,
    force_context_length: int | None = None,
    image_mean: tuple[float, ...] | None = None,
    image_std: tuple[float, ...] | None = None,
    image_interpolation: str | None = None,
    image_resize_mode: str | None = None,
    aug_cfg: Mapping[str, Any] | AugmentationCfg | None = None,
    **settings: Any,
) -> tuple[CLIP | CustomTextCLIP, TrainingTransform, EvaluationTransform]:
    """Build a model and the transforms of its images for training and for evaluation.

    Args:
        image_mean, image_std, image_interpolation, image_resize_mode: see `PreprocessCfg`.
        aug_cfg: see `AugmentationCfg`.
        settings and all others: see `create_model`.

    Raises:
        ValueError, TypeError, CheckpointError: as `create_model`.

    Example:
        >>> model, for_training, for_evaluation = fastclip.create_model_and_transforms("ViT-B-32")
        >>> images = for_evaluation(image)[None]                     # (1, 3, 224, 224) float32
    """
    model = create_model(
        model_name, pretrained, load_weights, precision, device, jit, force_quick_gelu,
        force_custom_text, force_patch_dropout, force_image_size,
        _preprocess_changes(image_mean, image_std, image_interpolation, image_resize_mode),
        force_context_length, **settings,
    )  # fmt: skip
    cfg = _preprocess_cfg(model_name, model)
    return model, image_transform_v2(cfg, True, aug_cfg), image_transform_v2(cfg, False)


def create_model_from_pretrained(
    model_name: str,
    pretrained: str | PathLike | None = None,
    precision: str = "fp32",
    device: str | torch.device = "cpu",
    jit: bool = False,
    force_quick_gelu: bool = False,
    force_custom_text: bool = False,
    force_image_size: int | tuple[int, int] | None = None,
    force_context_length: int | None = None,
    image_mean: tuple[float, ...] | None = None,
    image_std: tuple[float, ...] | None = None,
    image_interpolation: str | None = None,
    image_resize_mode: str | None = None,
    return_transform: bool = True,
    **settings: Any,
) -> tuple[CLIP | CustomTextCLIP, EvaluationTransform] | CLIP | CustomTextCLIP:
    """Build a model with weights, and the transform of its images; raise if it has no weights.

    Args:
        image_mean, image_std, image_interpolation, image_resize_mode: see `PreprocessCfg`.
        return_transform: False returns the model alone.
        settings and all others: see `create_model`.

    Raises:
        ValueError, TypeError: as `create_model`.
        CheckpointError: there are no weights; and as `create_model`.

    Example:
        >>> model, preprocess = fastclip.create_model_from_pretrained("ViT-B-32", "laion400m_e32")
        >>> features = model.encode_image(preprocess(image)[None], normalize=True)
    """
    model = create_model(
        model_name, pretrained, True, precision, device, jit, force_quick_gelu, force_custom_text,
        None, force_image_size,
        _preprocess_changes(image_mean, image_std, image_interpolation, image_resize_mode),
        force_context_length, require_pretrained=True, **settings,
    )  # fmt: skip
    if not return_transform:
        return model
    return model, image_transform_v2(_preprocess_cfg(model_name, model), is_train=False)


def _weights_or_precision(load_weights: bool | str, precision: str) -> tuple[bool, str]:
    """Return `load_weights` and `precision`, which may come in the order of open_clip 2."""
    if not isinstance(load_weights, str):
        return load_weights, precision
    if precision != "fp32":
        raise TypeError(
            f"load_weights={load_weights!r} and precision={precision!r} are both given: a string "
            "as the third argument is the precision, as in open_clip 2; give the arguments after "
            "it by name, such as device="
        )
    return True, load_weights


def _require_fields(model_kwargs: Mapping[str, Any]) -> None:
    known = {f.name for f in fields(ClipConfig)}
    unknown = [name for name in model_kwargs if name not in known]
    if unknown:
        raise TypeError(
            f"create_model has no argument {', '.join(unknown)}, and ClipConfig has no such field"
        )


def _weights(
    model_name: str,
    pretrained: str | PathLike | None,
    load_weights: bool,
    cache_dir: str | PathLike | None,
) -> StoredModel | None:
    place = Place.of(model_name)
    if place is not None:
        if pretrained:
            raise ValueError(
                f"pretrained={pretrained!r} must be left out: {model_name} has weights of its own"
            )
        return read_stored_model(place.directory(cache_dir)) if load_weights else None
    if not pretrained or not load_weights:
        return None
    name = open_clip_name(model_name)
    repository = REPOSITORIES.get(name, {}).get(clean_tag(str(pretrained)))
    if repository is not None and repository.count("/") == 2:
        repository, file = repository.rsplit("/", 1)
        return read_stored_model(download_pretrained_from_hf(repository, file, cache_dir=cache_dir))
    if repository is not None:
        return read_stored_model(fetch_repository(repository, cache_dir))
    if not Path(pretrained).exists():
        tags = ", ".join(REPOSITORIES.get(name, {})) or "none"
        raise ValueError(
            f"pretrained={pretrained!r} is neither a file nor a tag of {model_name}; its tags: "
            f"{tags}"
        )
    return read_stored_model(pretrained)


def _architecture(model_name: str, stored: StoredModel | None) -> ClipConfig:
    if stored is not None and Place.of(model_name) is not None:
        return stored.config_or_inferred()
    return get_model_config(model_name)


def _preprocess(
    config: ClipConfig,
    known: PreprocessCfg | None,
    told: Mapping[str, Any],
    changes: Mapping[str, Any] | None,
) -> PreprocessCfg:
    """Return how the images of a model are prepared.

    Args:
        known: the settings next to the weights, or next to the architecture.
        told: open_clip's settings of published weights, which override `known`, as in open_clip.
        changes: the user's changes, which override both.
    """
    preprocess = (known or preprocess_of(config)).with_size(config.vision_cfg.image_size)
    names = ("mean", "std", "interpolation", "resize_mode")
    told = {name: told[name] for name in names if name in told} | dict(changes or {})
    values = preprocess.to_dict() | told
    if values["resize_mode"] == NAFLEX:
        if "size" in told:  # allows as many patches as fit, unless their number is given too
            values["max_num_patches"] = told.get("max_num_patches")
        return PreprocessCfg.from_dict(_with_patches_of(config.vision_cfg, values))
    # Without "naflex" the fields that belong to it are dropped, unless they were asked for.
    kept = {n: v for n, v in values.items() if n in told or n not in NAFLEX_FIELDS}
    return PreprocessCfg.from_dict(kept)


def _with_patches_of(tower: ImageTowerConfig, values: dict[str, Any]) -> dict[str, Any]:
    """Return settings for images that keep different sizes, with the tower's patch size."""
    if not isinstance(tower, NaflexConfig):
        raise ValueError(
            f"resize_mode {NAFLEX!r} leaves images of different sizes, which a {tower.kind} does "
            "not take"
        )
    told = values.get("patch_size")
    if told not in (None, tower.patch_size):
        raise ValueError(
            f"patch_size {told} must be {tower.patch_size}, as in the model's {tower.kind}"
        )
    return values | {"patch_size": tower.patch_size}


def _preprocess_cfg(model_name: str, model: torch.nn.Module) -> PreprocessCfg:
    """Return how the images of a model are prepared; raise if a `TwoTower` does not say it."""
    if not hasattr(model.visual, "preprocess_cfg"):
        raise ValueError(
            f"{model_name} does not say how its images are prepared: use create_model with "
            "transforms of your own, or set model.visual.preprocess_cfg before it is saved"
        )
    return PreprocessCfg.from_dict(get_model_preprocess_cfg(model))


def _preprocess_changes(
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    interpolation: str | None,
    resize_mode: str | None,
) -> dict[str, Any]:
    return given(mean=mean, std=std, interpolation=interpolation, resize_mode=resize_mode)


def _require_none(**settings: Any) -> None:
    for name, value in settings.items():
        if value:
            raise ValueError(
                f"{name}={value!r} must be left out: a TwoTower is built as it was saved"
            )
