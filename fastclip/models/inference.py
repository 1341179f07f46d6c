"""A trained model with everything that inference needs: tokenizer, transform, device.

`open_model` takes whatever a user has: the directory of a run, a checkpoint, a directory of
weights, a repository, or a name with a tag.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastclip.data.digits.images import DIGIT_MEAN, DIGIT_STD
from fastclip.data.digits.transform import to_grid
from fastclip.data.patches import (
    NAFLEX,
    PatchBatch,
    collate_patches,
    stacked,
    standardize_patches,
)
from fastclip.data.pixels import standardize
from fastclip.data.preprocess import EvaluationTransform, PreprocessCfg, image_transform_v2
from fastclip.models import digits
from fastclip.models.build import build_model
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.run_files import newest_of_run
from fastclip.models.checkpoints.stored_model import read_stored_model
from fastclip.models.clip_config import ClipConfig
from fastclip.models.digests import (
    configuration_digest,
    settings_digest,
    tokenizer_digest,
    weights_digest,
)
from fastclip.models.factory import create_model
from fastclip.models.lone_tower import TOWERS, keep_only
from fastclip.models.precision import set_precision
from fastclip.models.presets import has_clip_vocabulary, preprocess_of
from fastclip.models.pretrained import list_pretrained_tags_by_model
from fastclip.models.registry import (
    Place,
    get_model_config,
    is_configuration_file,
    open_clip_name,
)
from fastclip.models.tokenizer import get_tokenizer, tokenizer_of_text
from fastclip.models.tower_precision import TowerPrecision


class Digests(NamedTuple):
    """The SHA-256 digests of everything that features depend on; see `digests.py`."""

    weights: str
    preprocess: str
    tokenizer: str
    configuration: str


@dataclass(frozen=True, eq=False)
class InferenceModel:
    """A model in evaluation mode, with its tokenizer and the transform of its images.

    Attributes:
        name: the name by which the user opened the model.
        model: takes (B, C, H, W) images and (B, T) tokens, either of which may be None; see
            `CLIP`.
        tokenizer: maps a list of B texts to (B, T) int64.
        transform: maps a PIL image, a path, the bytes of a file, or pixels of the right size to
            (C, H, W) uint8; for a NaFlex model, H and W differ from image to image.
        preprocess_cfg: how `transform` prepares images, as JSON; `mean` and `std` are applied on
            the device, by `prepare`.
        precision: the precision in which the towers compute, and their device.
        pretrained: the weights of the architecture `name` that the user asked for; None if the
            name alone determines them.
        only: the one tower that the model has, "image" or "text"; None if it has both.

    Example:
        >>> ready = open_model("logs/my-run")
        >>> pixels = torch.stack([ready.transform("cat.jpg"), ready.transform("dog.jpg")])
        >>> with torch.no_grad(), ready.autocast():
        ...     features, _, scale = ready.model(ready.prepare(pixels), None)
    """

    name: str
    model: nn.Module
    tokenizer: Callable[[list[str]], Tensor]
    transform: Callable[[Any], Tensor]
    preprocess_cfg: dict[str, Any]
    precision: TowerPrecision
    pretrained: str | None = None
    only: str | None = None

    @property
    def device(self) -> torch.device:
        return self.precision.device

    @property
    def logit_scale(self) -> float:
        """The factor of cosines in logits, such as 100; not its logarithm."""
        return self.model.logit_scale.detach().float().exp().mean().item()

    def autocast(self) -> AbstractContextManager:
        """Return the context in which a forward must run."""
        return self.precision.autocast()

    def with_decoding(self, decode: str) -> "InferenceModel":
        """Return the same model with another decoder for JPEG files; see `EvaluationTransform`.

        With "fast", pixels and features differ slightly, and `preprocess_cfg` records it.

        Raises:
            ValueError: `decode` is neither "exact" nor "fast", or the model's images are not files.
        """
        if decode == "exact":
            return self
        if not isinstance(self.transform, EvaluationTransform):
            raise ValueError(
                f"decode must be 'exact' for the images of {self.name}, got {decode!r}"
            )
        transform = replace(self.transform, decode=decode)
        cfg = {**self.preprocess_cfg, "decode": decode}
        return replace(self, transform=transform, preprocess_cfg=cfg)

    def prepare(self, images: Tensor | Sequence[Tensor]) -> Tensor | PatchBatch:
        """Map uint8 pixels on the host to images for the model, on its device.

        Args:
            images: (B, C, H, W), or a sequence of (C, H_i, W_i), which may differ in size if the
                model takes such images.

        Returns:
            (B, C, H, W), or a padded batch of patches where the sizes differ.

        Raises:
            ValueError: the sizes differ, and the model takes images of one size.
        """
        cfg = self.preprocess_cfg
        if not isinstance(images, Tensor):
            images = stacked(images)
        if not isinstance(images, Tensor):
            if cfg.get("resize_mode") != NAFLEX:
                sizes = sorted({tuple(image.shape) for image in images})
                raise ValueError(f"images must have one size for {self.name}, got {sizes}")
            batch = collate_patches(images, cfg["patch_size"])
            moved = {name: t.to(self.device, non_blocking=True) for name, t in batch.items()}
            return standardize_patches(moved, cfg["mean"], cfg["std"], self.precision.input_dtype)
        pixels = images.to(self.device, non_blocking=True)
        return standardize(pixels, cfg["mean"], cfg["std"]).to(self.precision.input_dtype)

    @cached_property
    def digests(self) -> Digests:
        """The digests of everything that features depend on; it takes about a second per GB."""
        return Digests(
            weights_digest(self.model), settings_digest(self.preprocess_cfg),
            tokenizer_digest(self.tokenizer), configuration_digest(self.model),
        )  # fmt: skip


class _Parts(NamedTuple):
    model: nn.Module
    tokenizer: Callable[[list[str]], Tensor]
    transform: Callable[[Any], Tensor]
    preprocess_cfg: dict[str, Any]


def open_model(
    name: str | PathLike,
    pretrained: str | PathLike | None = None,
    *,
    device: str | torch.device | None = None,
    precision: str | None = None,
    cache_dir: str | PathLike | None = None,
    only: str | None = None,
) -> InferenceModel:
    """Open a trained model for inference.

    Args:
        name: the directory of a run of `fastclip train`, whose newest checkpoint is opened; a
            checkpoint of such a run, or of the demo; a directory of weights of open_clip or
            transformers; a repository, "hf-hub:owner/name"; or the name of an architecture.
        pretrained: a tag of `list_pretrained()` or a file of weights, if `name` is the name of an
            architecture.
        device: by default the GPU, if torch finds one.
        precision: see `tower_precision.py`; by default "amp_bf16" on a GPU and "fp32" elsewhere.
        cache_dir: where published weights are kept.
        only: the one tower that is needed, "image" or "text"; the other tower then takes no memory
            of the device. `digests` are still the digests of the whole model.

    Raises:
        FileNotFoundError: there is no such file or directory, or a vocabulary is missing.
        ValueError: there is no such model or tag, an architecture is given without weights, or the
            device, precision or tower is not possible.
        CheckpointError: the weights cannot be fetched or read, do not fit, or do not say which
            model they belong to.

    Example:
        >>> open_model("logs/my-run").name
        'logs/my-run'
        >>> open_model("ViT-B-32", "laion2b_s34b_b79k", device="cpu")
    """
    if only is not None and only not in TOWERS:
        raise ValueError(f"only must be None, 'image' or 'text', got {only!r}")
    name = fspath(name)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    how = TowerPrecision(precision, where)
    path = Path(name)
    of_run = newest_of_run(path) if path.is_dir() else None
    if of_run is not None or (path.is_file() and not is_configuration_file(name)):
        if pretrained is not None:
            raise ValueError(
                f"pretrained={str(pretrained)!r} must be left out: {name} has weights of its own"
            )
        parts = _of_file(of_run or path, cache_dir)
        set_precision(parts.model, how.parameters)
    else:
        parts = _of_name(name, pretrained, how.parameters, cache_dir)
    tag = None if pretrained is None else fspath(pretrained)
    ready = InferenceModel(name, parts.model.eval(), *parts[1:], how, tag, only)
    if only is not None:
        _ = ready.digests  # computed and kept now, while the model has both towers
        keep_only(ready.model, only)
    ready.model.to(where)
    return ready


def _of_file(path: Path, cache_dir: str | PathLike | None) -> _Parts:
    stored = read_stored_model(path)
    config = stored.config_or_inferred()
    model = build_model(config, stored)
    if digits.is_digits_model(config):
        sizes = {"size": list(config.vision_cfg.image_size), "mean": DIGIT_MEAN, "std": DIGIT_STD}
        return _Parts(model, digits.tokenizer_of_digits(), to_grid, sizes)
    usual = preprocess_of(config).with_size(config.vision_cfg.image_size)
    return _Parts(
        model, _tokenizer_of_file(path, stored.trained_as, config, cache_dir),
        *_images(stored.preprocess or usual),
    )  # fmt: skip


def _of_name(
    name: str, pretrained: str | PathLike | None, precision: str, cache_dir: str | PathLike | None
) -> _Parts:
    if Place.of(name) is None and pretrained is None:
        raise _without_weights(name)
    tokenizer = get_tokenizer(name, cache_dir=cache_dir)
    model = create_model(
        name, pretrained, precision=precision, cache_dir=cache_dir, require_pretrained=True
    )
    if not hasattr(model.visual, "preprocess_cfg"):
        raise CheckpointError(
            f"{name} does not say how its images are prepared: set its model's "
            "visual.preprocess_cfg before it is saved"
        )
    return _Parts(model, tokenizer, *_images(PreprocessCfg.from_dict(model.visual.preprocess_cfg)))


def _without_weights(name: str) -> Exception:
    try:
        get_model_config(name)
    except ValueError as error:
        # open_clip's names have no slash, OpenAI's have one: "ViT-B/32".
        if Path(name).suffix in (".pt", ".pth", ".bin", ".safetensors") or name.count("/") > 1:
            return FileNotFoundError(f"there is no file or directory {name}")
        return error
    tags = ", ".join(list_pretrained_tags_by_model(open_clip_name(name)))
    return ValueError(
        f"{name!r} is the name of an architecture, without weights: give a tag or a file of "
        f"weights as pretrained (--pretrained); tags of {name}: {tags or 'none'}"
    )


def _images(cfg: PreprocessCfg) -> tuple[Callable[[Any], Tensor], dict[str, Any]]:
    return image_transform_v2(cfg, False, output="uint8"), cfg.to_dict()


def _tokenizer_of_file(
    path: Path, trained_as: str | None, config: ClipConfig, cache_dir: str | PathLike | None
) -> Callable[[list[str]], Tensor]:
    length = config.text_cfg.context_length
    if trained_as is not None and is_configuration_file(trained_as):
        # The file may be gone or changed since; the checkpoint has the configuration from it.
        return tokenizer_of_text(trained_as, config.text_cfg, length, cache_dir)
    if trained_as is None and not has_clip_vocabulary(config.text_cfg):
        raise CheckpointError(
            f"{path} does not say which tokenizer its texts had: give the name of its architecture "
            "as the model, and this file as pretrained (--pretrained)"
        )
    return get_tokenizer(trained_as or "ViT-B-32", length, cache_dir)
