"""Loading of weights that were published for an encoder of transformers alone.

fastclip's own reader reads them, as data, from the directory or the repository on the Hugging Face
Hub that `hf_model_name` names. Such a file may hold a whole model, with a decoder and heads; only
the encoder's tensors are loaded.
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

# The prefixes of an encoder's names in whole models, and the names of the token table that an
# encoder and a decoder share, where the file does not repeat it under the encoder's name.
PREFIXES = ("", "encoder.", "model.encoder.", "roberta.", "bert.")
SHARED = ("shared.weight", "model.shared.weight")


def load_encoder(encoder: nn.Module, name: str, cache_dir: str | PathLike | None = None) -> None:
    """Load the weights of `name` into an encoder of transformers, in place.

    Args:
        encoder: the encoder, which is changed in place.
        name: a directory with weights of transformers, or a repository, which is fetched.
        cache_dir: the directory in which fetched weights are kept.

    Raises:
        FileNotFoundError: the directory has no weights.
        CheckpointError: the weights cannot be fetched or read, or belong to another encoder.
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
        raise CheckpointError(
            f"the weights of the text tower {name!r} cannot be fetched: {error}"
        ) from error
    return read_directory_weights(path, TRANSFORMERS_WEIGHTS_NAMES).tensors
