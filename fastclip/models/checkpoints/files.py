"""Reading one file of weights: safetensors, a PyTorch pickle, or a TorchScript archive.

No pickle is run, see `plain_pickle.py`. The usual wrappers of a state dict are removed: the
`state_dict` of a training checkpoint, and the prefixes of names that DataParallel, `torch.compile`
and Lightning add.
"""

import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from fastclip.data.json_file import require_json
from fastclip.data.limits import LARGEST_JSON, LONGEST_NAME
from fastclip.data.quoting import named, quoted
from fastclip.models.checkpoints.errors import CheckpointError, reading
from fastclip.models.checkpoints.foreign import describe_content, require_content
from fastclip.models.checkpoints.jit_archive import is_jit_archive, read_jit_archive
from fastclip.models.checkpoints.plain_pickle import Unread
from fastclip.models.checkpoints.stored_tensors import StoredTensor, read_tensors
from fastclip.models.checkpoints.torch_file import OTHER_TENSORS, read_archive, read_legacy_file

WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "state_dict_ema")
PREFIXES = ("module.", "_orig_mod.", "model.")
# Sizes in OpenAI's archives, which are stored as tensors and are not weights.
OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")
# In a checkpoint of fastclip: the architecture, how images are prepared, the settings of the run.
SAID = ("model_config", "preprocess_cfg", "config")
# Tensors that are computed, not learned; older files of transformers and traced models store them.
COMPUTED = ("embeddings.position_ids", "attn_mask")


class WeightsFile(NamedTuple):
    """The content of one file of weights.

    Attributes:
        tensors: by the names in the file, on the CPU, without wrappers and prefixes.
        is_openai: whether the file has the marks of OpenAI's releases.
        said: the metadata about the model in a checkpoint of fastclip, by the names in `SAID`;
            empty for other files.
    """

    tensors: dict[str, Tensor]
    is_openai: bool
    said: dict[str, dict]


def read_weights_file(path: str | PathLike) -> WeightsFile:
    """Read the tensors of one file, on the CPU.

    The tensors' numbers are mapped from the file, and tensors may be views of each other: a caller
    that keeps tensors must copy them.

    Raises:
        FileNotFoundError: there is no file at `path`.
        UnsafeCheckpointError: the file is a pickle of more than tensors and plain values.
        CheckpointError: the file is empty, damaged or of another format, or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    require_content(path)
    if path.suffix == ".safetensors":
        return WeightsFile(_without_prefixes(_read_safetensors(path)), False, {})
    said: dict[str, dict] = {}
    if is_jit_archive(path):
        state_dict = read_jit_archive(path)
    else:
        state_dict, said = _read_state_dict(path)
    is_openai = all(name in state_dict for name in OPENAI_EXTRAS)
    weights = {k: v for k, v in state_dict.items() if k not in OPENAI_EXTRAS}
    return WeightsFile(_without_prefixes(weights), is_openai, said)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    with reading(path, "safetensors file"):
        with open(path, "rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > LARGEST_JSON:
            raise CheckpointError(
                f"it is not a readable safetensors file: its header claims {header:,} bytes, more "
                f"than the {LARGEST_JSON:,} that are read"
            )
        return load_file(path)


def _read_state_dict(path: Path) -> tuple[dict[str, Tensor], dict[str, dict]]:
    """Return the state dict that `torch.save` wrote, and the file's metadata about the model."""
    is_archive = zipfile.is_zipfile(path)
    if not is_archive and not _looks_like_pickle(path):
        raise CheckpointError(
            f"{path} is neither a safetensors file nor a PyTorch file: it may be damaged, or a web "
            "page that was saved instead of the weights"
        )
    with reading(path):
        content, places = read_archive(path) if is_archive else read_legacy_file(path)
        tensors = read_tensors(path, _state_dict(content), places)
        said = {name: content[name] for name in SAID if isinstance(content.get(name), Mapping)}
        if "model_config" not in said:
            return tensors, {}  # another program wrote it: the names may mean anything there
        require_json(said)
    return tensors, said


def _looks_like_pickle(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(1) == b"\x80"


def _state_dict(content: object) -> dict[str, StoredTensor]:
    for _ in range(3):
        if not isinstance(content, Mapping):
            break
        tensors = {k: v for k, v in content.items() if _is_tensor(v)}
        inner = next((content[w] for w in WRAPPERS if isinstance(content.get(w), Mapping)), None)
        if inner is None or len(tensors) > 1:
            if tensors:
                return _usable(tensors)
            break
        content = inner
    raise CheckpointError(
        "expected a state dict, as torch.save(model.state_dict(), path) writes it, found "
        f"{describe_content(content)}"
    )


def _is_tensor(value: object) -> bool:
    is_other = isinstance(value, Unread) and value.maker.startswith(OTHER_TENSORS)
    return is_other or isinstance(value, StoredTensor)


def _usable(tensors: dict) -> dict[str, StoredTensor]:
    for name, value in tensors.items():
        if not isinstance(name, str) or len(name) > LONGEST_NAME:
            raise CheckpointError(f"{quoted(name)} is not a name that a tensor can have")
        if isinstance(value, Unread):
            kind = value.maker.removeprefix(OTHER_TENSORS).replace("_", " ")
            raise CheckpointError(
                f"{named(name)} is a {kind}: fastclip reads only dense tensors whose numbers are "
                "in the file"
            )
    return tensors


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {name.replace("._orig_mod.", "."): name for name in tensors}
    while names and (
        prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in names)), None)
    ):
        names = {name.removeprefix(prefix): old for name, old in names.items()}
    return {n: tensors[old] for n, old in names.items() if not n.endswith(COMPUTED)}
