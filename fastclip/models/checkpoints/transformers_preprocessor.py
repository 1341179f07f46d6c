"""Converting between transformers' `preprocessor_config.json` and fastclip's settings.

Every field is obeyed or refused, unless it cannot change a result: see `transformers_fields.py`.
Before they are normalised, the pixels of an RGB image are bit for bit the ones that transformers'
processors make.

Source: CLIPImageProcessor, SiglipImageProcessor, Siglip2ImageProcessor and ViTImageProcessor of
transformers 5.23, Tipsv2ImageProcessor of 5.24.
"""

from typing import Any

from fastclip.data.patches import NAFLEX
from fastclip.data.preprocess import (
    INCEPTION_MEAN,
    INCEPTION_STD,
    OPENAI_DATASET_MEAN,
    OPENAI_DATASET_STD,
    PreprocessCfg,
)
from fastclip.data.quoting import quoted
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.transformers_fields import NAFLEX_PREPROCESSOR, PREPROCESSOR
from fastclip.models.clip_config import ClipConfig

BILINEAR, BICUBIC = 2, 3  # Pillow's numbers
INTERPOLATIONS = {BILINEAR: "bilinear", BICUBIC: "bicubic"}
RESCALE_FACTOR = 1 / 255
# The processors' defaults for fields that are left out. A field that is null has no value: a flag
# counts as not set, and any other field is refused where its value is needed.
EITHER_DEFAULTS = dict(
    do_resize=True, do_rescale=True, do_normalize=True, rescale_factor=RESCALE_FACTOR,
    resample=BICUBIC, default_to_square=False,
)  # fmt: skip
CLIP_DEFAULTS = EITHER_DEFAULTS | dict(
    do_center_crop=True, size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224},
    image_mean=OPENAI_DATASET_MEAN, image_std=OPENAI_DATASET_STD,
)  # fmt: skip
SIGLIP_DEFAULTS = EITHER_DEFAULTS | dict(
    do_center_crop=False, size={"height": 224, "width": 224}, crop_size=None,
    image_mean=INCEPTION_MEAN, image_std=INCEPTION_STD,
)  # fmt: skip
NAFLEX_DEFAULTS = EITHER_DEFAULTS | dict(
    resample=BILINEAR, image_mean=INCEPTION_MEAN, image_std=INCEPTION_STD, patch_size=16,
    max_num_patches=256,
)  # fmt: skip
VIT_DEFAULTS = SIGLIP_DEFAULTS | dict(default_to_square=True, resample=BILINEAR)
# This processor resizes with torchvision, whose pixels differ from Pillow's by one level in places.
TIPS_DEFAULTS = EITHER_DEFAULTS | dict(
    do_center_crop=False, size={"height": 448, "width": 448}, crop_size=None, do_normalize=False,
    image_mean=None, image_std=None, default_to_square=True, resample=BILINEAR,
)  # fmt: skip
PROCESSORS = {
    "CLIPImageProcessor": CLIP_DEFAULTS,
    "CLIPFeatureExtractor": CLIP_DEFAULTS,
    "SiglipImageProcessor": SIGLIP_DEFAULTS,
    "Siglip2ImageProcessor": NAFLEX_DEFAULTS,
    "ViTImageProcessor": VIT_DEFAULTS,
    "ViTFeatureExtractor": VIT_DEFAULTS,
    "Tipsv2ImageProcessor": TIPS_DEFAULTS,
}
# The processors by the `model_type` of the model.
PROCESSOR_OF = {
    "clip": "CLIPImageProcessor",
    "siglip": "SiglipImageProcessor",
    "siglip2": "Siglip2ImageProcessor",
    "tipsv2": "Tipsv2ImageProcessor",
}
SUFFIXES = ("Fast", "Pil")  # in the names of the same processor on another backend


def from_transformers_preprocessor(values: dict, config: ClipConfig) -> PreprocessCfg:
    """Read a `preprocessor_config.json`, or the same values inside a `processor_config.json`.

    Args:
        values: the JSON.
        config: the model's configuration, whose image size the result must have.

    Raises:
        ValueError: a field is unknown, or asks for something that fastclip does not do; the message
            names the field.
    """
    name = _processor(values, config)
    is_naflex = PROCESSORS[name] is NAFLEX_DEFAULTS
    fields = NAFLEX_PREPROCESSOR if is_naflex else PREPROCESSOR
    values = fields.read("the image processor", values)
    told = PROCESSORS[name] | values
    if not told["do_resize"]:
        raise ValueError("do_resize False is not supported: a model takes images of one size")
    if told["resample"] not in INTERPOLATIONS:
        raise ValueError(
            f"resample {quoted(told['resample'])} is not supported: fastclip resizes by 2 "
            "(bilinear) or 3 (bicubic)"
        )
    mean, std = _normalisation(told)
    if is_naflex:
        return _naflex(told, config, mean, std)
    cfg = PreprocessCfg(
        **_frame(told), mean=mean, std=std, interpolation=INTERPOLATIONS[told["resample"]]
    )
    if cfg.height_width != config.vision_cfg.image_size:
        field = "crop_size" if told["do_center_crop"] else "size"
        raise ValueError(
            f"{field} {quoted(told[field])} is not the image_size "
            f"{config.vision_cfg.image_size} of the model in config.json"
        )
    return cfg


def to_transformers_preprocessor(preprocess: PreprocessCfg, config: ClipConfig) -> dict:
    """Return the values of a `preprocessor_config.json`.

    transformers rounds the corner of a centre crop down, and open_clip rounds it to even: the crops
    of some images with an odd margin differ by a pixel.

    Raises:
        CheckpointError: transformers' processors cannot resize in this way.
    """
    if preprocess.resize_mode == "longest":
        raise CheckpointError("transformers' image processors have no resize_mode 'longest'")
    processor = PROCESSOR_OF[config.vision_cfg.transformers_model]
    if (processor == "Siglip2ImageProcessor") != (preprocess.resize_mode == NAFLEX):
        raise CheckpointError(
            f"transformers' {processor} has no resize_mode {preprocess.resize_mode!r}"
        )
    height, width = preprocess.height_width
    whole = {"height": height, "width": width}
    values = {
        "image_processor_type": processor,
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": RESCALE_FACTOR,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
        "resample": BILINEAR if preprocess.interpolation == "bilinear" else BICUBIC,
    }
    if processor == "CLIPImageProcessor":
        values["do_convert_rgb"] = True
    if preprocess.patches is not None:
        patch_size, most = preprocess.patches
        return values | {"patch_size": patch_size, "max_num_patches": most}
    if preprocess.resize_mode == "squash":
        return values | {"size": whole, "do_center_crop": False}
    shortest = {"shortest_edge": preprocess.shortest_edge or min(height, width)}
    return values | {"size": shortest, "do_center_crop": True, "crop_size": whole}


def _processor(values: dict, config: ClipConfig) -> str:
    """Return the name of the processor of these values, one of `PROCESSORS`."""
    field = "image_processor_type" if "image_processor_type" in values else "feature_extractor_type"
    said = values.get(field)
    if said is not None and not isinstance(said, str):
        raise ValueError(f"{field} {quoted(said)} is not the name of a processor")
    name = said or PROCESSOR_OF[config.vision_cfg.transformers_model]
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    if name not in PROCESSORS:
        raise ValueError(
            f"{field} {quoted(values[field])} is not supported: fastclip reads "
            f"{', '.join(PROCESSORS)}"
        )
    return name


def _naflex(
    told: dict, config: ClipConfig, mean: tuple[float, ...], std: tuple[float, ...]
) -> PreprocessCfg:
    """Return the settings for Siglip2ImageProcessor's values, whose images have any size."""
    vision = config.vision_cfg
    if vision.transformers_model != "siglip2":
        raise ValueError(
            f"Siglip2ImageProcessor is not supported for a {vision.kind}: its images have "
            "different sizes"
        )
    if told["patch_size"] != vision.patch_size:
        raise ValueError(
            f"patch_size {quoted(told['patch_size'])} is not the {vision.patch_size} of the model "
            "in config.json"
        )
    if told["max_num_patches"] is None:
        raise ValueError("max_num_patches None is not supported: images would have any size")
    return PreprocessCfg(
        vision.image_size, mean=mean, std=std, interpolation=INTERPOLATIONS[told["resample"]],
        resize_mode=NAFLEX, patch_size=vision.patch_size, max_num_patches=told["max_num_patches"],
    )  # fmt: skip


def _frame(told: dict) -> dict[str, Any]:
    """Return `size`, `resize_mode` and `shortest_edge` of the settings."""
    size = _sides("size", told["size"], bool(told["default_to_square"]))
    if set(size) == {"height", "width"}:
        whole = size["height"], size["width"]
        if told["do_center_crop"]:
            crop = _sides("crop_size", told["crop_size"], True)
            if crop != size:
                raise ValueError(
                    f"crop_size {quoted(told['crop_size'])} with size {quoted(told['size'])} is "
                    "not supported: fastclip does not crop after it has squashed an image"
                )
        return {"size": whole, "resize_mode": "squash"}
    if set(size) != {"shortest_edge"}:
        raise ValueError(
            f"size {quoted(told['size'])} is not supported: fastclip reads shortest_edge alone, or "
            "height and width"
        )
    if not told["do_center_crop"]:
        raise ValueError(
            f"size {quoted(told['size'])} without do_center_crop is not supported: images would "
            "keep different sizes"
        )
    crop = _sides("crop_size", told["crop_size"], True)
    if set(crop) != {"height", "width"}:
        raise ValueError(
            f"crop_size {quoted(told['crop_size'])} is not supported: fastclip reads height and "
            "width"
        )
    whole = crop["height"], crop["width"]
    return {"size": whole, "resize_mode": "shortest", "shortest_edge": size["shortest_edge"]}


def _sides(field: str, value: Any, to_square: bool) -> dict[str, int]:
    """Return a size as an object, from any of the spellings that transformers understands."""
    if isinstance(value, dict):
        return {name: side for name, side in value.items() if side is not None}
    if isinstance(value, int):
        return {"height": value, "width": value} if to_square else {"shortest_edge": value}
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return {"height": value[0], "width": value[1]}
    raise ValueError(f"{field} {quoted(value)} is not the size of an image")


def _normalisation(told: dict) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation for pixels in [0, 1].

    (x * factor - mean) / std = (x / 255 - mean / (255 * factor)) / (std / (255 * factor))
    """
    mean, std = told["image_mean"], told["image_std"]
    if not told["do_normalize"]:
        mean, std = 0.0, 1.0
    factor = told["rescale_factor"] if told["do_rescale"] else 1.0
    for field, value in (("image_mean", mean), ("image_std", std), ("rescale_factor", factor)):
        if value is None:
            raise ValueError(f"{field} None is not supported: there is nothing to normalise by")
    if not factor > 0:
        raise ValueError(f"rescale_factor {quoted(factor)} is not supported: it must be positive")
    unit = 1.0 if factor == RESCALE_FACTOR else 255 * factor
    return _divided(mean, unit), _divided(std, unit)


def _divided(values: Any, unit: float) -> tuple[float, ...]:
    values = values if isinstance(values, (list, tuple)) else (values,) * 3
    return tuple(value / unit for value in values)
