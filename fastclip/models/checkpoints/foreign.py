"""Files and directories that look like a model's weights and are something else.

Each is refused with an error that says how to get what was probably wanted.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastclip.data.quoting import some_of
from fastclip.models.checkpoints.errors import CheckpointError

OPEN_CLIP_CONFIG = "open_clip_config.json"
# Parts of the names of tensors in adapters that peft and other libraries train.
ADAPTER_MARKS = (".lora_", ".hada_w", ".lokr_w", ".ia3_")
TRANSFORMERS_MARKS = ("vision_model.", "text_model.", "vision_encoder.", "text_encoder.")
MERGE_FIRST = (
    "an adapter changes a model and is not a model itself. Merge it into its model first "
    "(peft: PeftModel.from_pretrained(model, path).merge_and_unload(), then save_pretrained) and "
    "give the directory that save_pretrained writes"
)
# Files that tell which kind of directory they lie in, with the rest of the error message.
FOREIGN_FILES = {
    "model_index.json": "a pipeline of diffusers, which is not a CLIP model",
    "modules.json": "a model of sentence-transformers: give the folder of the CLIP model inside it",
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
    ".onnx": "an ONNX graph, which fastclip cannot load: give the weights it was exported from",
    ".gguf": "in llama.cpp's format: give the weights it was converted from",
}
LFS_POINTER = b"version https://git-lfs"  # how a pointer begins


def require_model_directory(path: Path) -> None:
    """Raise unless a directory has the configuration of a whole model.

    Raises:
        FileNotFoundError: there is no configuration.
        CheckpointError: the directory holds an adapter, or a model of another kind.
    """
    if (path / "adapter_config.json").is_file():
        raise CheckpointError(f"{path} has adapter_config.json: {MERGE_FIRST}")
    if any((path / name).is_file() for name in (OPEN_CLIP_CONFIG, "config.json")):
        return
    for name, kind in FOREIGN_FILES.items():
        if (path / name).is_file():
            raise CheckpointError(f"{path} has {name}: it is {kind}")
    raise FileNotFoundError(
        f"{path} has neither {OPEN_CLIP_CONFIG} nor config.json: give a directory that fastclip, "
        "open_clip or transformers saved, or a file of weights"
    )


def no_weights(path: Path, names: Iterable[str]) -> str:
    """Return the error message for a directory that has none of the files in `names`."""
    lacks = f"{path} has no weights: it has none of {', '.join(names)}"
    config = path / OPEN_CLIP_CONFIG
    if config.is_file():
        lacks += f" (to train its architecture from random weights, give {config} as the model)"
    for name, kind in FOREIGN_WEIGHTS.items():
        if (path / name).is_file():
            return f"{lacks}. It has {name}, {kind}: save the model from PyTorch first"
    return lacks


def require_weights_file(path: Path) -> None:
    """Raise if the suffix of a file says that it holds no PyTorch weights (`FOREIGN_SUFFIXES`).

    Raises:
        CheckpointError: the suffix is one of these.
    """
    if path.is_file() and path.suffix.lower() in FOREIGN_SUFFIXES:
        raise CheckpointError(f"{path} is {FOREIGN_SUFFIXES[path.suffix.lower()]}")


def require_content(path: Path) -> None:
    """Raise if a file is empty, or is a pointer of Git LFS.

    Raises:
        CheckpointError: the file is one of these.
    """
    with open(path, "rb") as file:
        beginning = file.read(len(LFS_POINTER))
    if not beginning:
        raise CheckpointError(f"{path} is empty: copy or download it again")
    if beginning == LFS_POINTER:
        raise CheckpointError(
            f"{path} is a pointer of Git LFS and not the weights: run git lfs pull in the cloned "
            "repository"
        )


def require_whole_model(path: Path, tensors: Mapping[str, Any]) -> None:
    """Raise if a file holds an adapter, or weights that need the `config.json` of their directory.

    Raises:
        CheckpointError: the file is one of these.
    """
    if any(mark in name for name in tensors for mark in ADAPTER_MARKS):
        raise CheckpointError(f"{path} holds an adapter's tensors: {MERGE_FIRST}")
    if any(name.startswith(TRANSFORMERS_MARKS) for name in tensors):
        raise CheckpointError(
            f"{path} is one file of a transformers model, whose architecture is in config.json: "
            f"give the directory, such as {path.parent}, that has both files"
        )


def describe_content(content: object) -> str:
    """Describe, for an error message, what a file without a state dict holds."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__.removeprefix('Stored')}"
    if {"state", "param_groups"} <= set(content):
        return "an optimiser's state, without the weights that it belongs to"
    if "optimizer" in content:
        return "an optimiser's state and other values, without weights: " + _listed(content)
    return f"a dict of {_listed(content)}"


def _listed(content: Mapping) -> str:
    return some_of(content, 6) or "nothing"
