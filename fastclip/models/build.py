"""From a configuration and tensors to a model."""

from dataclasses import replace
from os import PathLike
from typing import Any

from fastclip.models.checkpoints.files import read_weights_file
from fastclip.models.checkpoints.load import load_stored_model
from fastclip.models.checkpoints.stored_model import StoredModel
from fastclip.models.clip import CLIP
from fastclip.models.clip_config import ClipConfig
from fastclip.models.coca.config import MultimodalConfig
from fastclip.models.coca.model import CoCa
from fastclip.models.towers.image_config import ImageTowerConfig
from fastclip.models.towers.text_config import TextTowerConfig
from fastclip.models.two_tower import CustomTextCLIP
from fastclip.models.unfilled import fill_buffers, unfilled

TOWERS = {"vision_cfg": ImageTowerConfig, "text_cfg": TextTowerConfig}


def build_model(
    config: ClipConfig,
    stored: StoredModel | None = None,
    resize: bool = False,
    output_dict: bool = False,
    model_class: type[CLIP] | None = None,
) -> CLIP | CustomTextCLIP:
    """The model of `config`, with random weights or those of `source`, in float32 on the CPU.

    Raises:
        CheckpointError: the weights do not fit.
    """
    cls = model_class or class_of(config)
    if stored is None:
        return cls(config, output_dict)
    # Random weights that are overwritten would cost most of the time.
    with unfilled():
        model = cls(config, output_dict)
    fill_buffers(model)
    load_stored_model(model, stored, resize=resize, assign=True)
    return model


def class_of(config: ClipConfig) -> type[CLIP] | type[CustomTextCLIP]:
    """The class of a model that is built in: `CLIP`, `CustomTextCLIP` or `CoCa`."""
    if config.multimodal_cfg is not None:
        return CoCa
    return CustomTextCLIP if config.custom_text else CLIP


def load_tower(model: CLIP | CustomTextCLIP, tower: str, path: str | PathLike) -> None:
    """Load weights of one tower alone, "visual" or "text", into `model`, in place.

    Raises:
        FileNotFoundError, CheckpointError: see `read_weights_file`; the weights do not fit.
    """
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
    load_stored_model(model, StoredModel(tensors | rest, None, None, None, None))


def changed_config(
    config: ClipConfig,
    force_quick_gelu: bool,
    force_custom_text: bool,
    force_patch_dropout: float | None,
    force_image_size: int | tuple[int, int] | None,
    force_context_length: int | None,
    fields: dict[str, Any],
) -> ClipConfig:
    """`config` with the changes that `create_model` takes; `fields` are of `ClipConfig`.

    Changes of one value are made to towers that are given whole, too.
    """
    for name, cls in TOWERS.items():
        if name in fields and not isinstance(fields[name], cls):
            raise TypeError(f"{name} must be a {cls.__name__}, got {fields[name]!r}")
    vision, text, decoder = (
        fields.get(name, getattr(config, name))
        for name in ("vision_cfg", "text_cfg", "multimodal_cfg")
    )
    if force_patch_dropout is not None and not hasattr(vision, "patch_dropout"):
        raise ValueError(
            f"force_patch_dropout={force_patch_dropout}: a {vision.kind} has no patches "
            "that it could leave out"
        )
    of_vision = given(patch_dropout=force_patch_dropout, image_size=force_image_size)
    of_texts = given(context_length=force_context_length)
    if isinstance(decoder, MultimodalConfig):  # what else was given is refused with the whole
        decoder = replace(decoder, **of_texts)
    changes = {"custom_text": True} if force_custom_text else {}
    changes |= fields | {
        "vision_cfg": replace(vision, **of_vision),
        "text_cfg": replace(text, **of_texts),
        "multimodal_cfg": decoder,
    }
    # All at once: half of the changes may make a model that is none.
    config = replace(config, **changes)
    return config.with_quick_gelu() if force_quick_gelu else config


def given(**values: Any) -> dict[str, Any]:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}
