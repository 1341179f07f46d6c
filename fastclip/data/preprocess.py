"""Turns an image into what an image encoder takes, with Pillow alone and equal to open_clip.

`image_transform` and `image_transform_v2` have open_clip's signatures, and their results equal
open_clip's bit for bit. With `output="uint8"` they return pixels that are not normalised, a quarter
of the bytes to move to the device; `standardize(images, cfg.mean, cfg.std)` then normalises there.

Peculiar behaviour of open_clip is kept (training always resizes crops bicubically), but errors are
not: 16-bit grey is scaled instead of clipped to white, and palettes are looked up before resizing,
so that colours are interpolated instead of palette indices.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Real
from typing import Any

from torch import Tensor

from fastclip.data.augment import AugmentationCfg
from fastclip.data.limits import LARGEST_IMAGE
from fastclip.data.patches import NAFLEX, patch_settings
from fastclip.data.quoting import quoted, some_of
from fastclip.data.transform_steps import (
    AnyImage,
    OpenReduced,
    Step,
    evaluation_steps,
    listed,
    smallest_side,
    tensor_steps,
    training_steps,
)

OPENAI_DATASET_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_DATASET_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INCEPTION_MEAN = (0.5, 0.5, 0.5)
INCEPTION_STD = (0.5, 0.5, 0.5)

ONE_SIZE_MODES = ("shortest", "longest", "squash")  # modes in which all images become `size`
RESIZE_MODES = (*ONE_SIZE_MODES, NAFLEX)
INTERPOLATIONS = ("bicubic", "bilinear", "random")
OUTPUTS = ("float32", "uint8")
DECODINGS = ("exact", "fast")
NAFLEX_FIELDS = ("patch_size", "max_num_patches")
NOT_OPEN_CLIPS = ("shortest_edge", *NAFLEX_FIELDS)
REDUCED_TO = 2  # "fast" decoding keeps at least this multiple of the encoder's pixels per side


@dataclass(frozen=True)
class PreprocessCfg:
    """How an encoder needs its images prepared, with the names of open_clip's `preprocess_cfg`.

    Attributes:
        size: height and width in pixels, or one number for both; with `resize_mode` "naflex", the
            size of an image with the largest number of patches.
        mode: "RGB".
        mean, std: per channel, in units of the full range; one number stands for all three.
        interpolation: "bicubic", "bilinear", or "random", which is a mode of timm and bicubic here.
        resize_mode: how images are resized for evaluation, see `resize.py`; "naflex" keeps the
            aspect ratio, so that images have different sizes, see `patches.py`.
        fill_color: value of all channels of the padding of "longest", 0 to 255.
        shortest_edge: for "shortest", as in transformers' processors but not in open_clip: the
            shorter side becomes that many pixels, and `size` is cut out of the centre, with the
            corner rounded down. With None, the image is resized until it just covers `size`.
        patch_size, max_num_patches: for "naflex" only, as in transformers'
            `Siglip2ImageProcessor`: both sides become multiples of `patch_size` pixels (None is
            16), and the image has at most `max_num_patches` patches. None is replaced by the number
            that `size` holds; see `with_size` for a copy with another size.

    Raises:
        ValueError: a value is out of its range.
    """

    size: int | tuple[int, int] = 224
    mode: str = "RGB"
    mean: tuple[float, float, float] = OPENAI_DATASET_MEAN
    std: tuple[float, float, float] = OPENAI_DATASET_STD
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0
    shortest_edge: int | None = None
    patch_size: int | None = None
    max_num_patches: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.size, Sequence):
            object.__setattr__(self, "size", tuple(self.size))
        for name in ("mean", "std"):
            value = getattr(self, name)
            per_channel = tuple(value) if isinstance(value, Sequence) else (value,) * 3
            object.__setattr__(self, name, per_channel)
            are_numbers = all(isinstance(x, Real) and math.isfinite(x) for x in per_channel)
            self._require(len(per_channel) == 3 and are_numbers, name, "one number or three")
        sides = self.height_width
        self._require(
            len(sides) == 2
            and all(isinstance(side, int) and 0 < side <= LARGEST_IMAGE for side in sides),
            "size", f"a positive number of pixels or two, at most {LARGEST_IMAGE:,}",
        )  # fmt: skip
        self._require(self.mode == "RGB", "mode", "'RGB'")
        self._require(min(self.std) > 0, "std", "positive")
        self._require(
            self.interpolation in INTERPOLATIONS, "interpolation", f"one of {INTERPOLATIONS}"
        )
        self._require(self.resize_mode in RESIZE_MODES, "resize_mode", f"one of {RESIZE_MODES}")
        is_color = isinstance(self.fill_color, Real) and 0 <= self.fill_color <= 255
        self._require(is_color, "fill_color", "in [0, 255]")
        edge = self.shortest_edge
        self._require(
            edge is None or (isinstance(edge, int) and 0 < edge <= LARGEST_IMAGE),
            "shortest_edge", f"None or a positive number of pixels, at most {LARGEST_IMAGE:,}",
        )  # fmt: skip
        self._set_patches()

    @classmethod
    def from_dict(cls, values: Mapping) -> "PreprocessCfg":
        """Make settings from open_clip's JSON; a field that is None gets its default.

        Raises:
            ValueError: a field is unknown, or a value is out of its range.
        """
        if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
            raise ValueError(f"preprocess_cfg has unsupported fields: {some_of(unknown, 8)}")
        return cls(**{k: v for k, v in values.items() if v is not None})

    def to_dict(self) -> dict:
        """Return open_clip's JSON; fields that open_clip does not have are only there if set."""
        values = asdict(self)
        for name in NOT_OPEN_CLIPS:
            if values[name] is None:
                del values[name]
        return values

    def with_size(self, size: int | tuple[int, int]) -> "PreprocessCfg":
        """Return these settings for images of another size.

        `shortest_edge` is scaled with the size, and `max_num_patches` becomes the number of patches
        that the size holds. If the size is the same, neither changes.
        """
        resized = replace(self, size=size)
        if resized.height_width != self.height_width and self.max_num_patches is not None:
            return replace(resized, max_num_patches=None)
        if self.shortest_edge is None:
            return resized
        ratio = min(resized.height_width) / min(self.height_width)
        return replace(resized, shortest_edge=round(self.shortest_edge * ratio))

    @property
    def patches(self) -> tuple[int, int] | None:
        """The size of a patch and the largest number of patches for "naflex", otherwise None."""
        return None if self.resize_mode != NAFLEX else (self.patch_size, self.max_num_patches)

    @property
    def height_width(self) -> tuple[int, int]:
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    def _set_patches(self) -> None:
        if self.resize_mode != NAFLEX:
            for name in NAFLEX_FIELDS:
                self._require(getattr(self, name) is None, name, f"None without {NAFLEX!r}")
            return
        self._require(self.shortest_edge is None, "shortest_edge", f"None with {NAFLEX!r}")
        side, most = patch_settings(self.height_width, self.patch_size, self.max_num_patches)
        object.__setattr__(self, "patch_size", side)
        object.__setattr__(self, "max_num_patches", most)

    def _require(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {expected}, got {quoted(getattr(self, name))}")


@dataclass(frozen=True)
class EvaluationTransform:
    """Maps an image to a tensor for evaluation; see `PreprocessCfg`.

    A PIL image is used as it is and converted to RGB at the end, as in open_clip: its EXIF
    orientation is not applied, and transparent pixels weigh less in resizing. A path, the bytes of
    a file or an open file is read by `load_image`, which first turns the image upright and converts
    it.

    Attributes:
        cfg: the settings.
        output: "float32" for normalised values, or "uint8" for pixels that `standardize` normalises
            later.
        decode: "exact", or "fast": a JPEG file is decoded at a half, a quarter or an eighth of its
            width and height, if both remain at least `REDUCED_TO` times as large as what the
            encoder takes. The pixels differ a little from the exact ones.
        transforms: the steps of a call, in order, with torchvision's names: a list that may be read
            (`transforms[0].size`, `transforms[-1].mean`), sliced and changed.

    Raises:
        ValueError: `output` or `decode` has another value.
        ImageError: when called, an image cannot be used; see `load_image` and `resize.py`.
        OSError: when called, a PIL image that was opened and not yet loaded is truncated.
    """

    cfg: PreprocessCfg
    output: str = "float32"
    decode: str = field(default="exact", repr=False)
    transforms: list[Step] = field(init=False, repr=False, hash=False)

    def __post_init__(self) -> None:
        _require_output(self.output)
        _require_decoding(self.decode)
        cfg = self.cfg
        steps = evaluation_steps(
            cfg.size, cfg.resize_mode, cfg.interpolation, cfg.fill_color, cfg.shortest_edge,
            cfg.patches,
        )  # fmt: skip
        steps += tensor_steps(cfg.mean, cfg.std, self.output)
        if self.decode == "fast":
            steps.insert(0, OpenReduced(REDUCED_TO * _largest_side(cfg)))
        object.__setattr__(self, "transforms", steps)

    def __call__(self, source: AnyImage) -> Tensor:
        """Return (3, H, W); H and W depend on the image if `resize_mode` is "naflex"."""
        return _run(self.transforms, source)

    def __str__(self) -> str:
        return listed(type(self).__name__, self.transforms)


@dataclass(frozen=True)
class TrainingTransform:
    """Maps an image to a tensor of a random view of it; see `AugmentationCfg`.

    It uses the size, mean and std of `cfg`: crops are always resized bicubically, as in open_clip.
    With `resize_mode` "naflex" a crop has the aspect ratio of its image, unless `aug_cfg` has a
    `ratio`, and keeps it when resized, so that views have different sizes.

    Attributes and Raises: as for `EvaluationTransform`. With `decode` "fast", the sides of the
    smallest crop of a square image have at least `REDUCED_TO` times the encoder's pixels. Crops
    with "fast" differ from those with "exact", even with equal seeds.
    """

    cfg: PreprocessCfg
    aug_cfg: AugmentationCfg = field(default_factory=AugmentationCfg)
    output: str = "float32"
    decode: str = field(default="exact", repr=False)
    transforms: list[Step] = field(init=False, repr=False, hash=False)

    def __post_init__(self) -> None:
        _require_output(self.output)
        _require_decoding(self.decode)
        steps = training_steps(self.cfg.height_width, self.aug_cfg, self.cfg.patches)
        steps += tensor_steps(self.cfg.mean, self.cfg.std, self.output)
        if self.decode == "fast":
            least = REDUCED_TO * _largest_side(self.cfg) / smallest_side(self.aug_cfg)
            steps.insert(0, OpenReduced(math.ceil(least)))
        object.__setattr__(self, "transforms", steps)

    def __call__(self, source: AnyImage) -> Tensor:
        """Return (3, H, W)."""
        return _run(self.transforms, source)

    def __str__(self) -> str:
        return listed(type(self).__name__, self.transforms)


def image_transform(
    image_size: int | tuple[int, int],
    is_train: bool,
    mean: float | tuple[float, ...] | None = None,
    std: float | tuple[float, ...] | None = None,
    resize_mode: str | None = None,
    interpolation: str | None = None,
    fill_color: int = 0,
    aug_cfg: Mapping | AugmentationCfg | None = None,
    output: str = "float32",
) -> EvaluationTransform | TrainingTransform:
    """Return the transform of these settings; None stands for the default of `PreprocessCfg`.

    A `mean` of 0 means 0, whereas open_clip takes it for None.

    Raises:
        TypeError: `aug_cfg` has an unknown key.
        ValueError: a value is out of its range.

    Example:
        >>> transform = fastclip.image_transform(224, is_train=False)
        >>> tuple(transform(Image.new("RGB", (300, 200))).shape)
        (3, 224, 224)
    """
    settings = {
        "mean": mean, "std": std, "resize_mode": resize_mode, "interpolation": interpolation,
    }  # fmt: skip
    given = {name: value for name, value in settings.items() if value is not None}
    cfg = PreprocessCfg(size=image_size, fill_color=fill_color, **given)
    return image_transform_v2(cfg, is_train, aug_cfg, output)


def image_transform_v2(
    cfg: PreprocessCfg,
    is_train: bool,
    aug_cfg: Mapping | AugmentationCfg | None = None,
    output: str = "float32",
    decode: str = "exact",
) -> EvaluationTransform | TrainingTransform:
    """Return the transform of `cfg`; `aug_cfg` is used for training only.

    Raises:
        TypeError: `aug_cfg` has an unknown key.
        ValueError: a value is out of its range.

    Example:
        >>> cfg = PreprocessCfg(size=(224, 224), resize_mode="squash")
        >>> transform = fastclip.image_transform_v2(cfg, is_train=False)
    """
    if not is_train:
        return EvaluationTransform(cfg, output, decode)
    if not isinstance(aug_cfg, AugmentationCfg):
        aug_cfg = AugmentationCfg(**(aug_cfg or {}))
    return TrainingTransform(cfg, aug_cfg, output, decode)


def _run(steps: list[Step], value: Any) -> Any:
    for step in steps:
        value = step(value)
    return value


def _largest_side(cfg: PreprocessCfg) -> int:
    """Return the most pixels that the shorter side of an image can have after resizing."""
    if cfg.patches is not None:
        return math.isqrt(cfg.max_num_patches) * cfg.patch_size
    return max(*cfg.height_width, cfg.shortest_edge or 0)


def _require_decoding(decode: str) -> None:
    if decode not in DECODINGS:
        raise ValueError(f"decode must be one of {DECODINGS}, got {decode!r}")


def _require_output(output: str) -> None:
    if output not in OUTPUTS:
        raise ValueError(f"output must be one of {OUTPUTS}, got {output!r}")
