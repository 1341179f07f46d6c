"""Where weights come from: a file, or a directory that says what model they are of.

    open_clip_config.json + weights     open_clip's directories, and ours
    config.json + weights               transformers' CLIPModel and SiglipModel
    one file                            OpenAI's, open_clip's and fastclip's checkpoints

A `Source` holds tensors under open_clip's names, and of model and pictures what is known.
"""

import json
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from fastclip.data.preprocess import PreprocessCfg
from fastclip.data.tokenizers.beside_weights import is_openai_vocabulary
from fastclip.models.checkpoints.errors import ActivationMismatchError, CheckpointError
from fastclip.models.checkpoints.files import WeightsFile, read_weights_file
from fastclip.models.checkpoints.infer import infer_config
from fastclip.models.checkpoints.transformers_config import (
    from_transformers_config,
    from_transformers_preprocessor,
)
from fastclip.models.checkpoints.transformers_layout import from_transformers
from fastclip.models.config import ClipConfig
from fastclip.models.open_clip_config import from_json
from fastclip.models.presets import OPENAI_VOCAB_SIZE

OPEN_CLIP_CONFIG = "open_clip_config.json"
# In the order in which they are looked for.
WEIGHTS_NAMES = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth", "model.safetensors",
    "pytorch_model.bin", "pytorch_model.pth", "model.pth",
)  # fmt: skip
TRANSFORMERS_WEIGHTS_NAMES = ("model.safetensors", "pytorch_model.bin")
PREPROCESSOR_NAMES = ("preprocessor_config.json", "processor_config.json")


class Source(NamedTuple):
    """Attributes:
    tensors: by open_clip's names, on the CPU.
    config: of the model, or None if a bare state dict says nothing of it.
    activation: that the weights are known to be of, where `config` is None.
    preprocess: how pictures are prepared, or None.
    directory: where they were found, if it was one; tokenizer files lie there too.
    """

    tensors: dict[str, Tensor]
    config: ClipConfig | None
    activation: str | None
    preprocess: PreprocessCfg | None
    directory: Path | None

    @property
    def activations(self) -> tuple[str | None, str | None]:
        """Of the vision and of the text tower; None where unknown or none."""
        if self.config is not None:
            return self.config.activations
        return self.activation, self.activation

    def config_or_inferred(self, activation: str | None = None) -> ClipConfig:
        """`config`, or one inferred from the shapes of the tensors.

        Args:
            activation: of weights that do not say it themselves.

        Raises:
            ActivationMismatchError: the weights say that they are of another `activation`.
            CheckpointError: see `infer_config`.
        """
        known = next((a for a in self.activations if a is not None), None)
        if None not in (known, activation) and known != activation:
            raise ActivationMismatchError(known, activation)
        return self.config or infer_config(self.tensors, known or activation)


def read_source(path: str | PathLike) -> Source:
    """Read weights from a file or a directory.

    Raises:
        FileNotFoundError: there is nothing at `path`, or a directory lacks its configuration or
            its weights.
        CheckpointError: something in it cannot be read or does not fit together.
    """
    path = Path(path)
    if not path.is_dir():
        file = read_weights_file(path)
        config = None if file.model_config is None else _open_clip_model(file.model_config, path)
        activation = "quick_gelu" if file.is_openai else None
        return Source(file.tensors, config, activation, None, None)
    if (path / OPEN_CLIP_CONFIG).is_file():
        return _open_clip_directory(path)
    if (path / "config.json").is_file():
        return _transformers_directory(path)
    raise FileNotFoundError(f"{path} has neither {OPEN_CLIP_CONFIG} nor config.json")


def read_config(directory: str | PathLike) -> ClipConfig:
    """The configuration in a directory, without its weights.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it cannot be read.
    """
    path = Path(directory)
    if (path / OPEN_CLIP_CONFIG).is_file():
        values = _read_json(path / OPEN_CLIP_CONFIG)
        return _open_clip_model(values.get("model_cfg", values), path / OPEN_CLIP_CONFIG)
    if (path / "config.json").is_file():
        config = from_transformers_config(_read_json(path / "config.json"))
        return _with_tokenizer(config, path)
    raise FileNotFoundError(f"{path} has neither {OPEN_CLIP_CONFIG} nor config.json")


def _with_tokenizer(config: ClipConfig, path: Path) -> ClipConfig:
    """The configuration with a name for the tokenizer, unless it is shown to be OpenAI's.

    Without a name it would be OpenAI's to open_clip and to us, whose ids such a vocabulary has too.
    """
    text = config.text_cfg
    has_the_ids = text.vocab_size >= OPENAI_VOCAB_SIZE
    is_openai = text.vocab_size == OPENAI_VOCAB_SIZE and is_openai_vocabulary(path)
    if text.hf_tokenizer_name is not None or is_openai or not has_the_ids:
        return config
    return replace(config, text_cfg=replace(text, hf_tokenizer_name=path.resolve().name))


def _open_clip_directory(path: Path) -> Source:
    preprocess = _read_json(path / OPEN_CLIP_CONFIG).get("preprocess_cfg")
    weights = _read_weights(path, WEIGHTS_NAMES)
    return Source(
        weights.tensors,
        read_config(path),
        None,
        None if preprocess is None else PreprocessCfg.from_dict(preprocess),
        path,
    )


def _transformers_directory(path: Path) -> Source:
    config = read_config(path)
    weights = _read_weights(path, TRANSFORMERS_WEIGHTS_NAMES)
    found = next((path / name for name in PREPROCESSOR_NAMES if (path / name).is_file()), None)
    preprocess = None
    if found is not None:
        preprocess = from_transformers_preprocessor(_read_json(found), config)
    return Source(from_transformers(weights.tensors, config), config, None, preprocess, path)


def _read_weights(path: Path, names: tuple[str, ...]) -> WeightsFile:
    for name in names:
        if (path / name).is_file():
            return read_weights_file(path / name)
        if (path / f"{name}.index.json").is_file():
            return _read_shards(path, _read_json(path / f"{name}.index.json"))
    raise FileNotFoundError(f"{path} has no weights: none of {', '.join(names)}")


def _read_shards(path: Path, index: dict) -> WeightsFile:
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(index["weight_map"].values())):
        tensors |= read_weights_file(path / name).tensors
    return WeightsFile(tensors, False, None)


def _open_clip_model(values: dict, path: Path) -> ClipConfig:
    try:
        return from_json(values)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read_json(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return values
