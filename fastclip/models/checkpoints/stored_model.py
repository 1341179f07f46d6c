"""Reading a `StoredModel` from a file, or from a directory that says which model it holds.

    open_clip_config.json + weights     open_clip's directories, and ours
    config.json + weights               transformers' CLIPModel, SiglipModel, Siglip2Model and
                                        Tipsv2Model
    one file                            OpenAI's, open_clip's and fastclip's checkpoints

A `StoredModel` holds tensors under open_clip's names, and what is known about the model and its
images.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from fastclip.data.json_file import read_json_object
from fastclip.data.preprocess import PreprocessCfg
from fastclip.data.quoting import first_line, quoted, some_of
from fastclip.data.tokenizers.beside_weights import is_openai_vocabulary
from fastclip.models.checkpoints.errors import SHOWN, ActivationMismatchError, CheckpointError
from fastclip.models.checkpoints.files import WeightsFile, read_weights_file
from fastclip.models.checkpoints.foreign import (
    OPEN_CLIP_CONFIG,
    no_weights,
    require_model_directory,
    require_weights_file,
    require_whole_model,
)
from fastclip.models.checkpoints.infer import both_towers, infer_config
from fastclip.models.checkpoints.open_clip_preprocess import (
    NAFLEX_PREPROCESS,
    PREPROCESS,
    from_open_clip_preprocess,
)
from fastclip.models.checkpoints.transformers_config import from_transformers_config
from fastclip.models.checkpoints.transformers_layout import from_transformers
from fastclip.models.checkpoints.transformers_preprocessor import from_transformers_preprocessor
from fastclip.models.clip_config import ClipConfig
from fastclip.models.json_fields import JsonFields
from fastclip.models.open_clip_config import from_file_values, from_json
from fastclip.models.presets import OPENAI_VOCAB_SIZE, preprocess_of

# Names of files of weights, in the order in which they are looked for.
WEIGHTS_NAMES = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth", "model.safetensors",
    "pytorch_model.bin", "pytorch_model.pth", "model.pth",
)  # fmt: skip
TRANSFORMERS_WEIGHTS_NAMES = ("model.safetensors", "pytorch_model.bin")
# The first file may hold the settings of the second one, and then takes precedence.
PROCESSOR, PREPROCESSOR = "processor_config.json", "preprocessor_config.json"
# A name without a folder: an index lists files next to itself.
SHARD_NAME = re.compile(r"\w[\w.+-]{0,250}")
OPEN_CLIP_FIELDS = JsonFields({"model_cfg", PREPROCESS, NAFLEX_PREPROCESS, "hf_config"})


class StoredModel(NamedTuple):
    """Weights, and what is known about their model.

    Attributes:
        tensors: by open_clip's names, on the CPU.
        config: the model's configuration, or None for a bare state dict.
        activation: the known activation of the weights if `config` is None, or None.
        preprocess: how images are prepared, or None if it is not known.
        directory: the directory with the weights and maybe a tokenizer; None for a single file.
        is_openai: whether the weights were in a file with the marks of OpenAI's releases.
        trained_as: the model's name in the settings of a run of fastclip, which determines the
            tokenizer; or None.
    """

    tensors: dict[str, Tensor]
    config: ClipConfig | None
    activation: str | None
    preprocess: PreprocessCfg | None
    directory: Path | None
    is_openai: bool = False
    trained_as: str | None = None

    @property
    def activations(self) -> tuple[str | None, str | None]:
        """The activations of the vision and of the text tower; None if unknown or not a choice."""
        if self.config is not None:
            return self.config.activations
        return self.activation, self.activation

    def config_or_inferred(
        self,
        activation: str | tuple[str, str] | None = None,
        heads: int | tuple[int, int] | None = None,
    ) -> ClipConfig:
        """Return `config`, or a configuration inferred from the shapes of the tensors.

        Args:
            activation: for weights that do not say their activation; see `infer_config`.
            heads: for weights that do not say their number of heads; see `infer_config`.

        Raises:
            ActivationMismatchError: the weights are known to have another activation.
            CheckpointError: the weights are known to have another number of heads; or as
                `infer_config`.
        """
        for known, told in zip(
            self.activations, both_towers("activation", activation), strict=True
        ):
            if None not in (known, told) and known != told:
                raise ActivationMismatchError(known, told)
        if self.config is None:
            told = self.activation or activation
            return infer_config(self.tensors, told, heads, self.is_openai)
        known = self.config.vision_cfg.heads, self.config.text_cfg.heads
        if heads is not None and known != both_towers("heads", heads):
            raise CheckpointError(
                f"heads {heads} do not fit the weights, which have {known} in the vision and the "
                "text tower"
            )
        return self.config


def read_stored_model(path: str | PathLike) -> StoredModel:
    """Read weights from a file or a directory.

    Raises:
        FileNotFoundError: there is nothing at `path`, or a directory lacks its configuration or
            its weights.
        CheckpointError: a file cannot be read, or the files do not fit together.
    """
    path = Path(path)
    if not path.is_dir():
        require_weights_file(path)
        file = read_weights_file(path)
        require_whole_model(path, file.tensors)
        if file.said:
            return _checkpoint_of_run(file, path)
        activation = "quick_gelu" if file.is_openai else None
        return StoredModel(file.tensors, None, activation, None, None, file.is_openai)
    require_model_directory(path)
    if (path / OPEN_CLIP_CONFIG).is_file():
        return _open_clip_directory(path)
    return _transformers_directory(path)


def read_config(directory: str | PathLike) -> ClipConfig:
    """Return the configuration in a directory, without its weights.

    Raises:
        FileNotFoundError: the directory has no configuration.
        CheckpointError: the configuration cannot be read, or has a field that is not supported.
    """
    path = Path(directory)
    require_model_directory(path)
    if (path / OPEN_CLIP_CONFIG).is_file():
        return read_open_clip_settings(path / OPEN_CLIP_CONFIG)[0]
    values = _read_json(path / "config.json")
    return _with_tokenizer(_obeyed(path / "config.json", from_transformers_config, values), path)


def _with_tokenizer(config: ClipConfig, path: Path) -> ClipConfig:
    """Return the configuration with a name for the tokenizer, unless that is known to be OpenAI's.

    Without a name, open_clip and fastclip would take OpenAI's tokenizer, whose ids a larger
    vocabulary has too.
    """
    text = config.text_cfg
    has_the_ids = text.vocab_size >= OPENAI_VOCAB_SIZE
    is_openai = text.vocab_size == OPENAI_VOCAB_SIZE and is_openai_vocabulary(path)
    if text.hf_tokenizer_name is not None or is_openai or not has_the_ids:
        return config
    return replace(config, text_cfg=replace(text, hf_tokenizer_name=path.resolve().name))


def _checkpoint_of_run(file: WeightsFile, path: Path) -> StoredModel:
    config = _open_clip_model(file.said["model_config"], path)
    settings = file.said.get("config", {})
    stated = file.said.get("preprocess_cfg") or _preprocess_told(settings, config)
    preprocess = None if stated is None else _obeyed(path, PreprocessCfg.from_dict, stated)
    name = settings.get("model")
    trained_as = name if isinstance(name, str) else None
    return StoredModel(file.tensors, config, None, preprocess, None, False, trained_as)


def _preprocess_told(settings: dict, config: ClipConfig) -> dict | None:
    """Return the settings of images from the flags of a run whose checkpoint is older than
    `preprocess_cfg`, or None if no flag was given.
    """
    names = ("mean", "std", "interpolation", "resize_mode")
    told = {name: settings.get(f"image_{name}") for name in names}
    told = {name: value for name, value in told.items() if value is not None}
    if not told:
        return None
    usual = preprocess_of(config).with_size(config.vision_cfg.image_size)
    return usual.to_dict() | told


def _open_clip_directory(path: Path) -> StoredModel:
    config, preprocess = read_open_clip_settings(path / OPEN_CLIP_CONFIG)
    weights = read_directory_weights(path, WEIGHTS_NAMES)
    return StoredModel(weights.tensors, config, None, preprocess, path)


def read_open_clip_settings(path: Path) -> tuple[ClipConfig, PreprocessCfg | None]:
    """Return the architecture in a JSON file of open_clip's, and its preprocessing or None.

    Raises:
        CheckpointError: the file cannot be read, or has a field that is not supported.
    """
    values = _read_json(path)
    if "model_cfg" not in values:
        return _open_clip_model(values, path), None
    values = _obeyed(path, OPEN_CLIP_FIELDS.read, "the file", values)
    config = _obeyed(path, from_file_values, values)
    size = config.vision_cfg.image_size
    return config, _obeyed(path, from_open_clip_preprocess, values, size)


def _transformers_directory(path: Path) -> StoredModel:
    config = read_config(path)
    weights = read_directory_weights(path, TRANSFORMERS_WEIGHTS_NAMES)
    preprocess = _transformers_preprocessor(path, config)
    return StoredModel(from_transformers(weights.tensors, config), config, None, preprocess, path)


def _transformers_preprocessor(path: Path, config: ClipConfig) -> PreprocessCfg | None:
    for name in (PROCESSOR, PREPROCESSOR):
        if not (path / name).is_file():
            continue
        values = _read_json(path / name)
        if name == PROCESSOR:
            # The file may have settings of the tokenizer alone.
            values = values.get("image_processor")
        if values is not None:
            return _obeyed(path / name, from_transformers_preprocessor, values, config)
    return None


def read_directory_weights(path: Path, names: tuple[str, ...]) -> WeightsFile:
    """Read the weights in a directory: the first of `names` that is there, whole or in parts.

    Raises:
        FileNotFoundError: the directory has none of `names`, or a part is missing.
        CheckpointError: a file cannot be read.
    """
    for name in names:
        if (path / name).is_file():
            return read_weights_file(path / name)
        if (path / f"{name}.index.json").is_file():
            return _read_shards(path, f"{name}.index.json")
    raise FileNotFoundError(no_weights(path, names))


def _read_shards(path: Path, index: str) -> WeightsFile:
    tensors: dict[str, Tensor] = {}
    names = _shard_names(path / index)
    if absent := [name for name in names if not (path / name).is_file()]:
        raise FileNotFoundError(
            f"{path / index} lists {len(names)} files of weights, and {len(absent)} of them are "
            f"missing: {some_of(absent, SHOWN)}"
        )
    for name in names:
        tensors |= read_weights_file(path / name).tensors
    return WeightsFile(tensors, False, {})


def _shard_names(index: Path) -> list[str]:
    """Return the names of the files in an index of weights; they must lie next to the index."""
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} is not an index of weights: it has no object weight_map")
    for name in weight_map.values():
        if not isinstance(name, str) or not SHARD_NAME.fullmatch(name):
            raise CheckpointError(
                f"{index} lists {quoted(name)}, which is not the name of a file next to it"
            )
    return sorted(set(weight_map.values()))


def _open_clip_model(values: dict, path: Path) -> ClipConfig:
    return _obeyed(path, from_json, values)


def _obeyed(path: Path, read: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `read` makes of a file's values; its errors get the file's name."""
    try:
        return read(*arguments)
    except MemoryError:
        raise
    except Exception as error:  # values of a type that is not looked for fail in any way at all
        raise CheckpointError(f"{path}: {_said(error)}") from error


def _said(error: Exception) -> str:
    """Return the message of an error of fastclip's, or the first line of any other error."""
    return str(error) if isinstance(error, ValueError) else first_line(error)


def _read_json(path: Path) -> dict:
    return read_json_object(path, CheckpointError)
