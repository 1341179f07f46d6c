"""Writing a model in a layout that other libraries read.

    open_clip   a directory: open_clip_config.json, open_clip_model.safetensors, tokenizer files
    hf          a directory that transformers' CLIPModel, SiglipModel, Siglip2Model or Tipsv2Model,
                and their processors, load
    hf_vision   a directory that its CLIPVisionModel, SiglipVisionModel, Siglip2VisionModel or
                Tipsv2VisionModel, and their image processors, load: the image tower alone, as
                language models read it
    openai      one file: the state dict that openai/CLIP's `load` takes

A destination is complete or does not exist: a directory is first written under another name next to
its place and then renamed. A destination that exists already is never touched.
"""

import json
import shutil
from os import PathLike
from pathlib import Path

from torch import Tensor

from fastclip.atomic_file import replacing, save_tensors
from fastclip.data.preprocess import PreprocessCfg
from fastclip.data.tokenizers.byte_pairs import BytePairTokenizer
from fastclip.data.tokenizers.hugging_face import TOKENIZER_FILES
from fastclip.data.tokenizers.open_clip import SimpleTokenizer
from fastclip.data.tokenizers.openai_vocabulary import locate_openai_vocabulary
from fastclip.models.checkpoints.errors import ActivationMismatchError, CheckpointError
from fastclip.models.checkpoints.foreign import OPEN_CLIP_CONFIG
from fastclip.models.checkpoints.open_clip_preprocess import to_open_clip_preprocess
from fastclip.models.checkpoints.transformers_config import (
    to_transformers_config,
    to_transformers_vision_config,
)
from fastclip.models.checkpoints.transformers_layout import to_transformers, to_transformers_vision
from fastclip.models.checkpoints.transformers_preprocessor import to_transformers_preprocessor
from fastclip.models.clip_config import ClipConfig
from fastclip.models.contrastive_model import ContrastiveModel
from fastclip.models.open_clip_config import file_values, is_portable, to_json
from fastclip.models.two_tower import TwoTower
from fastclip.models.two_tower_config import TWO_TOWER_CONFIG, TWO_TOWER_WEIGHTS, describe
from fastclip.new_directory import new_directory, require_nothing_at

LAYOUTS = ("open_clip", "hf", "hf_vision", "openai")
COPIED_FILES = (*TOKENIZER_FILES, "special_tokens_map.json", "added_tokens.json")


def save_pretrained(
    model: ContrastiveModel,
    destination: str | PathLike,
    layout: str = "open_clip",
    tokenizer_directory: str | PathLike | None = None,
) -> None:
    """Save a built-in model for open_clip, transformers or openai/CLIP, or a `TwoTower`.

    Args:
        model: `CLIP` or `CustomTextCLIP`; its `visual.preprocess_cfg`, if any, is written too. A
            `TwoTower` of other encoders is written as `two_tower_config.py` describes, and read by
            `TwoTower.from_pretrained` or `create_model`.
        destination: a directory, or a file for `layout` "openai"; it must not exist.
        layout: "open_clip", "hf", "hf_vision" or "openai", see the module.
        tokenizer_directory: a directory whose tokenizer files are copied too; not with `layout`
            "hf_vision".

    Raises:
        FileExistsError: there is something at `destination`.
        CheckpointError: the layout has no place for such a model; nothing is written.
        TypeError: `model` is neither a built-in model nor a `TwoTower`.

    Example:
        >>> fastclip.save_pretrained(model, "tower", layout="hf_vision")
        >>> tower = transformers.CLIPVisionModel.from_pretrained("tower")
        >>> processor = transformers.CLIPImageProcessor.from_pretrained("tower")
    """
    config = getattr(model, "config", None)
    if not isinstance(config, ClipConfig):
        if not isinstance(model, TwoTower):
            raise TypeError(f"{type(model).__name__} is neither a built-in model nor a TwoTower")
        if layout != "open_clip" or tokenizer_directory is not None:
            raise CheckpointError(
                "a TwoTower has one layout, its own, and no tokenizer: leave out layout and "
                "tokenizer_directory"
            )
        with new_directory(Path(destination)) as directory:
            _write_two_tower(directory, model)
        return
    preprocess = getattr(model.visual, "preprocess_cfg", None)
    write_weights(
        destination, layout, model.state_dict(), config,
        None if preprocess is None else PreprocessCfg.from_dict(preprocess), tokenizer_directory,
    )  # fmt: skip


def write_weights(
    destination: str | PathLike,
    layout: str,
    tensors: dict[str, Tensor],
    config: ClipConfig,
    preprocess: PreprocessCfg | None,
    tokenizer_directory: str | PathLike | None = None,
) -> None:
    """Write tensors, given under open_clip's names, with their settings; see `save_pretrained`."""
    destination = Path(destination)
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {LAYOUTS}, got {layout!r}")
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    preprocess = preprocess or config.vision_cfg.preprocess()
    if layout == "openai":
        require_nothing_at(destination)
        content = _openai_state_dict(tensors, config)
        with replacing(destination) as file:
            save_tensors(content, file)
        return
    if layout == "hf_vision" and tokenizer_directory is not None:
        raise ValueError("an image tower has no tokenizer: leave tokenizer_directory out")
    with new_directory(destination) as directory:
        DIRECTORY_WRITERS[layout](directory, tensors, config, preprocess)
        if layout != "hf_vision":
            _write_tokenizer(directory, layout, config, tokenizer_directory)


def _write_open_clip(
    directory: Path, tensors: dict[str, Tensor], config: ClipConfig, preprocess: PreprocessCfg
) -> None:
    if not is_portable(config):
        raise CheckpointError(
            f"open_clip cannot build this model, whose configuration is {to_json(config)}"
        )
    values = file_values(to_json(config)) | to_open_clip_preprocess(preprocess)
    _write_json(directory / OPEN_CLIP_CONFIG, values)
    _write_safetensors(directory / "open_clip_model.safetensors", tensors)


def _write_two_tower(directory: Path, model: TwoTower) -> None:
    values = describe(model)
    _write_json(directory / TWO_TOWER_CONFIG, values)
    # safetensors refuses tied weights, which have one memory and several names.
    tensors = {n: v.detach().cpu().contiguous().clone() for n, v in model.state_dict().items()}
    _write_safetensors(directory / TWO_TOWER_WEIGHTS, tensors)


def _write_transformers(
    directory: Path, tensors: dict[str, Tensor], config: ClipConfig, preprocess: PreprocessCfg
) -> None:
    _write_safetensors(directory / "model.safetensors", to_transformers(tensors, config))
    _write_json(directory / "config.json", to_transformers_config(config))
    _write_image_processor(directory, config, preprocess)


def _write_transformers_vision(
    directory: Path, tensors: dict[str, Tensor], config: ClipConfig, preprocess: PreprocessCfg
) -> None:
    _write_safetensors(directory / "model.safetensors", to_transformers_vision(tensors, config))
    _write_json(directory / "config.json", to_transformers_vision_config(config))
    _write_image_processor(directory, config, preprocess)


def _write_image_processor(directory: Path, config: ClipConfig, preprocess: PreprocessCfg) -> None:
    values = to_transformers_preprocessor(preprocess, config)
    _write_json(directory / "preprocessor_config.json", values)


DIRECTORY_WRITERS = {
    "open_clip": _write_open_clip,
    "hf": _write_transformers,
    "hf_vision": _write_transformers_vision,
}


def _openai_state_dict(tensors: dict[str, Tensor], config: ClipConfig) -> dict[str, Tensor]:
    if config.custom_text or not config.vision_cfg.is_openais:
        raise CheckpointError(
            "openai/CLIP has no such model: its image towers are OpenAI's ViTs and ResNets, and "
            "its text tower is not a separate module"
        )
    if lacking := _what_openai_lacks(config):
        raise CheckpointError(
            f"openai/CLIP would build a different model, which has {', '.join(lacking)}"
        )
    for activation in config.activations:
        if activation not in (None, "quick_gelu"):
            raise ActivationMismatchError(activation, "quick_gelu, as all models of openai/CLIP")
    # openai/CLIP has a scalar scale; a scale of shape (1,) holds the same number.
    return tensors | {"logit_scale": tensors["logit_scale"].reshape(())}


def _what_openai_lacks(config: ClipConfig) -> list[str]:
    """List what openai/CLIP would build differently, because its file cannot describe it."""
    vision, text = config.vision_cfg, config.text_cfg
    objections = vision.what_openai_lacks() | {
        "heads of 64 channels in the text tower": text.heads != text.width // 64,
        "text pooling by argmax": text.pool_type != "argmax",
        "a causal mask": text.no_causal_mask,
        "norms of epsilon 1e-5 in the text tower": text.norm_eps != 1e-5,
        "a projection of texts": text.proj_type != "linear" or text.proj_bias,
        "no LayerScale in the text tower": text.ls_init_value is not None,
        "no logit_bias": config.init_logit_bias is not None,
        "MLPs of 4 times the width in the text tower": text.mlp_ratio != 4,
        "square images": vision.image_size[0] != vision.image_size[1],
    }
    return [what for what, holds in objections.items() if holds]


def _write_tokenizer(
    directory: Path, layout: str, config: ClipConfig, source: str | PathLike | None
) -> None:
    if source is not None:
        for name in COPIED_FILES:
            if Path(source, name).is_file():
                shutil.copyfile(Path(source, name), directory / name)
    elif config.text_cfg.has_byte_vocabulary():
        text = config.text_cfg
        settings = {"context_length": text.context_length, **text.tokenizer_kwargs}
        if (clean := settings.get("clean", "lower")) == "lower":
            SimpleTokenizer(**settings).save_pretrained(directory)
        elif layout == "hf":
            raise CheckpointError(
                f"tokenizer_kwargs: clean {clean!r} has no place in transformers' files, whose "
                "tokenizer lowers the case of texts; give a tokenizer_directory, or the layout "
                "open_clip"
            )
    elif config.text_cfg.has_clip_vocabulary() and (located := locate_openai_vocabulary()):
        # Nothing is fetched here: if the vocabulary is not found, the weights are still written.
        tokenizer = BytePairTokenizer(located.path, config.text_cfg.context_length)
        tokenizer.save_pretrained(directory)


def _write_json(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # safetensors makes files that only their owner can read: keep the usual permissions.
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from error
    path.chmod(mode)
