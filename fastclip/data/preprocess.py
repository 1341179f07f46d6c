"""From an image to what an image encoder takes, by Pillow alone, to the last bit open_clip's.

`image_transform` and `image_transform_v2` have open_clip's signatures. With `output="uint8"` the
pixels leave unnormalised, a quarter of the bytes to hand to the device, and
`standardize(images, cfg.mean, cfg.std)` there does the rest.

open_clip's results are kept where they are peculiar (training always crops bicubically) and left
where they are wrong: 16-bit grey is scaled and not clipped to white, and palettes are looked up
before resizing, so that colours are interpolated and not picked.
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

ONE_SIZE_MODES = ("shortest", "longest", "squash")  # of images that all become `size`
RESIZE_MODES = (*ONE_SIZE_MODES, NAFLEX)
INTERPOLATIONS = ("bicubic", "bilinear", "random")
OUTPUTS = ("float32", "uint8")
DECODINGS = ("exact", "fast")
NAFLEX_FIELDS = ("patch_size", "max_num_patches")
NOT_OPEN_CLIPS = ("shortest_edge", *NAFLEX_FIELDS)
REDUCED_TO = 2  # times the pixels of a side that the encoder takes, at least


@dataclass(frozen=True)
class PreprocessCfg:
    """What an encoder expects of its images, with the names of open_clip's `preprocess_cfg`.

    Attributes:
        size: height and width in pixels, or one number for both; with `resize_mode` "naflex", of
            an image of as many patches as one has at most.
        mode: "RGB".
        mean, std: per channel, in units of the full range; one number stands for all three.
        interpolation: "bicubic", "bilinear", or "random", which is timm's and bicubic here.
        resize_mode: of evaluation, see `resize.py`; "naflex" keeps the aspect ratio, and images
            have different sizes: see `patches.py`.
        fill_color: value of all channels of the padding of "longest", 0 to 255.
        shortest_edge: of "shortest", as transformers' processors do it and open_clip cannot: the
            shortest edge becomes that many pixels and `size` is cut out of the centre, whose corner
            is rounded down. None covers `size` just so.
        patch_size, max_num_patches: of "naflex" alone, as transformers' `Siglip2ImageProcessor`
            has them: both sides become multiples of `patch_size` pixels (None is 16), and hold at
            most `max_num_patches` patches (None is as many as `size` holds, and becomes that
            number: of a copy for another size, see `with_size`).

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
        """Read open_clip's JSON; a field that is None has its default.

        Raises:
            ValueError: a field is unknown, or a value is out of its range.
        """
        if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
            raise ValueError(f"preprocess_cfg: {some_of(unknown, 8)} not supported")
        return cls(**{k: v for k, v in values.items() if v is not None})

    def to_dict(self) -> dict:
        """Return open_clip's JSON; of what open_clip has not, only what there is."""
        values = asdict(self)
        for name in NOT_OPEN_CLIPS:
            if values[name] is None:
                del values[name]
        return values

    def with_size(self, size: int | tuple[int, int]) -> "PreprocessCfg":
        """Return these settings for images of another size.

        `shortest_edge` grows with it, and `max_num_patches` becomes what it holds; the same size
        changes neither.
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
        """Of "naflex" the size of a patch and the largest number of patches, otherwise None."""
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
    """Maps an image to the tensor that it is evaluated as; see `PreprocessCfg`.

    A PIL image is taken as it is and becomes RGB at the end, as in open_clip: EXIF orientation is
    not applied, and transparent pixels weigh less in resizing. A path, the bytes of a file or an
    open file goes through `load_image`, which turns the image upright and converts it first.

    Attributes:
        output: "float32" normalised, or "uint8" pixels, to be normalised by `standardize`.
        decode: "exact", or "fast": the file of a JPEG is decoded in a half, a quarter or an eighth
            of its width and height where both remain at least `REDUCED_TO` times as large as what
            the encoder takes. The pixels differ a little from the exact ones.
        transforms: the steps that a call takes, in order, with torchvision's names: a list that
            may be read (`transforms[0].size`, `transforms[-1].mean`), sliced and changed.

    Raises:
        ValueError: `output` or `decode` is none of those.
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
        """Return (3, H, W), of the image's own size if `resize_mode` is "naflex"."""
        return _run(self.transforms, source)

    def __str__(self) -> str:
        return listed(type(self).__name__, self.transforms)


@dataclass(frozen=True)
class TrainingTransform:
    """Maps an image to the tensor of a random view of it; see `AugmentationCfg`.

    Of `cfg`, it needs size, mean and std: crops are always resized bicubically, as in open_clip.
    With `resize_mode` "naflex" a crop has the aspect ratio of its image, unless `aug_cfg` has a
    `ratio`, and keeps it: views have different sizes.

    Attributes and Raises: as for `EvaluationTransform`. With `decode` "fast", the sides of the
    smallest crop of a square image have at least `REDUCED_TO` times the encoder's pixels. With
    equal seeds, crops are then other ones than those of exact decoding.
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
    """Return the transform of these settings; None is the default of `PreprocessCfg`.

    A `mean` of 0 is 0; open_clip takes it for None.

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
    """Return the transform of `cfg`; `aug_cfg` is for training only.

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
    """The most pixels that the shorter side of an image can have behind the resizing."""
    if cfg.patches is not None:
        return math.isqrt(cfg.max_num_patches) * cfg.patch_size
    return max(*cfg.height_width, cfg.shortest_edge or 0)


def _require_decoding(decode: str) -> None:
    if decode not in DECODINGS:
        raise ValueError(f"decode must be one of {DECODINGS}, got {decode!r}")


def _require_output(output: str) -> None:
    if output not in OUTPUTS:
        raise ValueError(f"output must be one of {OUTPUTS}, got {output!r}")
