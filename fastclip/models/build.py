"""Building a model from a configuration and loading stored tensors into it."""

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
    """Build the model of `config` in float32 on the CPU, with random or with stored weights.

    Args:
        stored: the weights to load; None for random ones.
        resize: interpolate stored position embeddings to the sizes in `config`.
        output_dict: `forward` returns a dict instead of a tuple.
        model_class: the class to build; by default `class_of(config)`.

    Raises:
        CheckpointError: the stored weights do not fit.
    """
    cls = model_class or class_of(config)
    if stored is None:
        return cls(config, output_dict)
    # Drawing random weights, which are then overwritten, would take most of the time.
    with unfilled():
        model = cls(config, output_dict)
    fill_buffers(model)
    load_stored_model(model, stored, resize=resize, assign=True)
    return model


def class_of(config: ClipConfig) -> type[CLIP] | type[CustomTextCLIP]:
    """Return the class of the built-in model of `config`: `CLIP`, `CustomTextCLIP` or `CoCa`."""
    if config.multimodal_cfg is not None:
        return CoCa
    return CustomTextCLIP if config.custom_text else CLIP


def load_tower(model: CLIP | CustomTextCLIP, tower: str, path: str | PathLike) -> None:
    """Load the weights of one tower alone into `model`, in place.

    Args:
        tower: "visual" or "text".
        path: a file with the tensors of the tower, with or without the tower's prefix.

    Raises:
        FileNotFoundError, CheckpointError: see `read_weights_file`.
        CheckpointError: the weights do not fit the tower.
    """
    # The text tower of `CLIP` has all parameters besides the image tower, the scale and the bias.
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
    """Return `config` with the changes that `create_model` takes.

    `fields` are values for fields of `ClipConfig`. The other changes also apply to a tower that
    `fields` replaces.
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
            f"force_patch_dropout={force_patch_dropout} is not possible: a {vision.kind} has no "
            "patch dropout"
        )
    of_vision = given(patch_dropout=force_patch_dropout, image_size=force_image_size)
    of_texts = given(context_length=force_context_length)
    if isinstance(decoder, MultimodalConfig):  # `ClipConfig` refuses any other value
        decoder = replace(decoder, **of_texts)
    changes = {"custom_text": True} if force_custom_text else {}
    changes |= fields | {
        "vision_cfg": replace(vision, **of_vision),
        "text_cfg": replace(text, **of_texts),
        "multimodal_cfg": decoder,
    }
    # All changes are made at once, because some of them alone may give an invalid configuration.
    config = replace(config, **changes)
    return config.with_quick_gelu() if force_quick_gelu else config


def given(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}
