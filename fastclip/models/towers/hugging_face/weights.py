"""The weights that an encoder of transformers was published with, alone.

They are read as data, by fastclip's own reader, from the directory or the repository on the Hugging
Face Hub that `hf_model_name` names. Whole models are there, with decoders and heads: an encoder
takes what is its own.
"""

from os import PathLike
from pathlib import Path

from torch import Tensor, nn

from fastclip.models.checkpoints.errors import CheckpointError, KeyMismatchError
from fastclip.models.checkpoints.stored_model import (
    TRANSFORMERS_WEIGHTS_NAMES,
    read_directory_weights,
)
from fastclip.models.fetch import fetch_weights

# What stands before an encoder's names in models that hold it, and the table of tokens that an
# encoder and a decoder share, where the encoder's is not written a second time.
PREFIXES = ("", "encoder.", "model.encoder.", "roberta.", "bert.")
SHARED = ("shared.weight", "model.shared.weight")


def load_encoder(encoder: nn.Module, name: str, cache_dir: str | PathLike | None = None) -> None:
    """Load the weights of `name` into an encoder of transformers, in place.

    Args:
        name: a directory with weights of transformers, or a repository, which is fetched.

    Raises:
        FileNotFoundError: the directory has no weights.
        CheckpointError: they cannot be fetched or read, or are of another encoder.
    """
    tensors = _read(name, cache_dir)
    own = encoder.state_dict()
    found = max((_under(prefix, own, tensors) for prefix in PREFIXES), key=len)
    for shared in SHARED:
        if shared in tensors and "embed_tokens.weight" in own:
            found.setdefault("embed_tokens.weight", tensors[shared])
    missing = [name for name in own if name not in found]
    misshapen = [
        f"{name}: {tuple(value.shape)} in the weights, {tuple(own[name].shape)} in the model"
        for name, value in found.items()
        if value.shape != own[name].shape
    ]
    if missing or misshapen:
        raise KeyMismatchError(missing, [], misshapen)
    encoder.load_state_dict(found)


def _under(prefix: str, own: dict[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {name: f"{prefix}{name}" for name in own}
    return {name: tensors[theirs] for name, theirs in names.items() if theirs in tensors}


def _read(name: str, cache_dir: str | PathLike | None) -> dict[str, Tensor]:
    path = Path(name)
    try:
        path = path if path.is_dir() else fetch_weights(name, cache_dir)
    except ValueError as error:
        raise CheckpointError(f"the weights of the text tower {name!r}: {error}") from error
    return read_directory_weights(path, TRANSFORMERS_WEIGHTS_NAMES).tensors
