"""Files and directories that look like a model's weights and are something else.

Each is refused with the way to what was probably wanted.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastclip.data.quoting import some_of
from fastclip.models.checkpoints.errors import CheckpointError

OPEN_CLIP_CONFIG = "open_clip_config.json"
# Of adapters that peft and others train: names of a state dict.
ADAPTER_MARKS = (".lora_", ".hada_w", ".lokr_w", ".ia3_")
TRANSFORMERS_MARKS = ("vision_model.", "text_model.", "vision_encoder.", "text_encoder.")
MERGE_FIRST = (
    "an adapter changes a model and is not one itself. Merge it into its model first "
    "(peft: PeftModel.from_pretrained(model, path).merge_and_unload(), then save_pretrained) and "
    "give what that writes"
)
# A file that tells what kind of directory it lies in, and what to do about it.
FOREIGN_FILES = {
    "model_index.json": "a pipeline of diffusers, which has no pair of CLIP's towers",
    "modules.json": "a model of sentence-transformers: give the directory of its CLIP model in it",
}
FOREIGN_WEIGHTS = {
    "tf_model.h5": "TensorFlow's weights",
    "flax_model.msgpack": "Flax's weights",
    "model.onnx": "an ONNX graph",
}
FOREIGN_SUFFIXES = {
    ".json": "a configuration or an index, not weights: give the directory that it lies in",
    ".h5": "in TensorFlow's format: save the model from PyTorch first",
    ".msgpack": "in Flax's format: save the model from PyTorch first",
    ".onnx": "an ONNX graph, from which no model can be built: give the weights it was made of",
    ".gguf": "in llama.cpp's format: give the weights it was made of",
}
LFS_POINTER = b"version https://git-lfs"  # how it begins


def require_model_directory(path: Path) -> None:
    """Raise unless a directory has a configuration of a whole model.

    Raises:
        FileNotFoundError: there is no configuration.
        CheckpointError: the directory is an adapter's, or another kind of model's.
    """
    if (path / "adapter_config.json").is_file():
        raise CheckpointError(f"{path} has adapter_config.json: {MERGE_FIRST}")
    if any((path / name).is_file() for name in (OPEN_CLIP_CONFIG, "config.json")):
        return
    for name, kind in FOREIGN_FILES.items():
        if (path / name).is_file():
            raise CheckpointError(f"{path} has {name}: it is {kind}")
    raise FileNotFoundError(f"{path} has neither {OPEN_CLIP_CONFIG} nor config.json")


def no_weights(path: Path, names: Iterable[str]) -> str:
    """What to say of a directory that has none of the weights that `names` lists."""
    lacks = f"{path} has no weights: none of {', '.join(names)}"
    config = path / OPEN_CLIP_CONFIG
    if config.is_file():
        lacks += f" (the architecture alone, to be trained from random weights, is {config})"
    for name, kind in FOREIGN_WEIGHTS.items():
        if (path / name).is_file():
            return f"{lacks}. It has {name}, {kind}: save the model from PyTorch first"
    return lacks


def require_weights_file(path: Path) -> None:
    """Raise if a file's name says that it holds no weights of PyTorch, see `FOREIGN_SUFFIXES`.

    Raises:
        CheckpointError: see above.
    """
    if path.is_file() and path.suffix.lower() in FOREIGN_SUFFIXES:
        raise CheckpointError(f"{path} is {FOREIGN_SUFFIXES[path.suffix.lower()]}")


def require_content(path: Path) -> None:
    """Raise if a file is empty, or only says where its content is.

    Raises:
        CheckpointError: see above.
    """
    with open(path, "rb") as file:
        beginning = file.read(len(LFS_POINTER))
    if not beginning:
        raise CheckpointError(f"{path} is empty")
    if beginning == LFS_POINTER:
        raise CheckpointError(
            f"{path} is a pointer of Git LFS and not the weights: run git lfs pull where it was "
            "cloned"
        )


def require_whole_model(path: Path, tensors: Mapping[str, Any]) -> None:
    """Raise if one file's tensors are an adapter's, or need a configuration from their directory.

    Raises:
        CheckpointError: see above.
    """
    if any(mark in name for name in tensors for mark in ADAPTER_MARKS):
        raise CheckpointError(f"{path} holds an adapter's tensors: {MERGE_FIRST}")
    if any(name.startswith(TRANSFORMERS_MARKS) for name in tensors):
        raise CheckpointError(
            f"{path} is one file of a transformers model, whose config.json tells what it is of: "
            f"give the directory, such as {path.parent}, that has both"
        )


def describe_content(content: object) -> str:
    """What a file without a state dict holds, for an error."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__.removeprefix('Stored')}"
    if {"state", "param_groups"} <= set(content):
        return "an optimiser's state, without the weights that it belongs to"
    if "optimizer" in content:
        return "an optimiser's state among other things, without weights: " + _listed(content)
    return f"a dict of {_listed(content)}"


def _listed(content: Mapping) -> str:
    return some_of(content, 6) or "nothing"
