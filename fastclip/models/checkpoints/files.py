"""One file of weights: safetensors, a PyTorch pickle, or a TorchScript archive.

Pickles are read with `weights_only=True`, always. What wraps a state dict is recognised: a training
checkpoint's `state_dict`, the prefixes of DataParallel, `torch.compile` and Lightning.
"""

import pickle
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fastclip.models.checkpoints.errors import CheckpointError, UnsafeCheckpointError
from fastclip.models.checkpoints.foreign import describe_content, require_content
from fastclip.models.checkpoints.jit_archive import is_jit_archive, read_jit_archive

WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "state_dict_ema")
PREFIXES = ("module.", "_orig_mod.", "model.")
# Of OpenAI's archives: sizes, kept as tensors, which are no weights.
OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")
# Computed, not learned: in older files of transformers, and in archives of traced models.
COMPUTED = ("embeddings.position_ids", "attn_mask")


class WeightsFile(NamedTuple):
    """Attributes:
    tensors: by the names in the file, on the CPU, wrappers and prefixes removed.
    is_openai: the file has the marks of OpenAI's releases.
    model_config: what a checkpoint of fastclip says of its model, or None.
    """

    tensors: dict[str, Tensor]
    is_openai: bool
    model_config: dict | None


def read_weights_file(path: str | PathLike) -> WeightsFile:
    """Read the tensors of one file, on the CPU.

    Raises:
        FileNotFoundError: there is no file.
        UnsafeCheckpointError: it is a pickle of more than tensors and plain values.
        CheckpointError: it is empty, damaged, of another format, or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    require_content(path)
    if path.suffix == ".safetensors":
        return WeightsFile(_without_prefixes(_read_safetensors(path)), False, None)
    config = None
    if is_jit_archive(path):
        state_dict = read_jit_archive(path)
    else:
        content = _read_pickle(path)
        config = content.get("model_config") if isinstance(content, Mapping) else None
        state_dict = _state_dict(content, path)
    is_openai = all(name in state_dict for name in OPENAI_EXTRAS)
    weights = {k: v for k, v in state_dict.items() if k not in OPENAI_EXTRAS}
    return WeightsFile(_without_prefixes(weights), is_openai, config)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error


def _read_pickle(path: Path) -> object:
    if not zipfile.is_zipfile(path) and not _looks_like_pickle(path):
        raise CheckpointError(
            f"{path} is neither safetensors nor a PyTorch file (damaged, or a download page?)"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeCheckpointError(_refusal(path, error)) from None
    except Exception as error:  # a damaged file can fail in any way at all
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _looks_like_pickle(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(1) == b"\x80"


def _refusal(path: Path, error: Exception) -> str:
    lines = str(error).splitlines()
    reason = next((line for line in lines if "GLOBAL" in line or "Unsupported" in line), lines[0])
    return (
        f"{path} is refused: it holds more than tensors, and reading it would run code "
        f"({reason.strip()}). Where you trust it, write its weights anew with the code that "
        "made it: torch.save(model.state_dict(), 'weights.pt')"
    )


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    for _ in range(3):
        if not isinstance(content, Mapping):
            break
        tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)}
        inner = next((content[w] for w in WRAPPERS if isinstance(content.get(w), Mapping)), None)
        if inner is None or len(tensors) > 1:
            if tensors:
                return tensors
            break
        content = inner
    raise CheckpointError(f"{path} holds no state dict: {describe_content(content)}")


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {name.replace("._orig_mod.", "."): name for name in tensors}
    while names and (
        prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in names)), None)
    ):
        names = {name.removeprefix(prefix): old for name, old in names.items()}
    return {n: tensors[old] for n, old in names.items() if not n.endswith(COMPUTED)}
