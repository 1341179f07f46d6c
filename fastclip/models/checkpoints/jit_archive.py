"""The tensors of a TorchScript archive, such as OpenAI's files, without running what is in it.

An archive is a zip: `data.pkl`, a pickle of the module tree; `data/0`, `data/1`, ..., the bytes of
its storages; `code/`, the program. The pickle is read by an unpickler that knows four things: a
tensor over a storage, an ordered dict, the lists that TorchScript writes, and "an object of a
class in `__torch__`", which becomes a bag of attributes. All else is refused; `code/` stays shut.

Source: torch/csrc/jit/docs/serialization.md in PyTorch.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from fastclip.models.checkpoints.errors import CheckpointError, UnsafeCheckpointError

STORAGE_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")


class ScriptObject:
    """An object of the program: its attributes, nothing of its behaviour."""

    def __setstate__(self, state: dict) -> None:
        self.attributes = dict(state)


def is_jit_archive(path: str | PathLike) -> bool:
    """Whether `path` is a zip with a TorchScript program in it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(_inside(name).startswith("code/") for name in archive.namelist())


def read_jit_archive(path: str | PathLike) -> dict[str, Tensor]:
    """The state dict of the module in a TorchScript archive, on the CPU.

    Raises:
        UnsafeCheckpointError: the pickle asks for anything but tensors and containers.
        CheckpointError: the archive is damaged or holds no module.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {_inside(name): name for name in archive.namelist()}
            pickled = archive.read(members["data.pkl"])
            module = _Unpickler(io.BytesIO(pickled), archive, members).load()
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle can fail in any way at all
        raise CheckpointError(f"{path} is a damaged TorchScript archive: {error!r}") from error
    if not isinstance(module, ScriptObject):
        raise CheckpointError(f"{path} holds a {type(module).__name__}, not a module")
    return dict(_tensors(module, ""))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, archive: zipfile.ZipFile, members: dict) -> None:
        super().__init__(file)
        self.archive = archive
        self.members = members
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return ScriptObject
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name in LISTS:
            return list
        raise UnsafeCheckpointError(f"refused: reading it would run {module}.{name}")

    def persistent_load(self, reference: tuple) -> Tensor:
        kind, dtype, key, _, num_elements = reference
        if kind != "storage":
            raise UnsafeCheckpointError(f"refused: a reference to {kind!r}, not to a storage")
        if key not in self.storages:
            content = bytearray(self.archive.read(self.members[f"data/{key}"]))
            self.storages[key] = torch.frombuffer(content, dtype=dtype, count=num_elements)
        return self.storages[key]


def _rebuild_tensor(
    storage: Tensor, offset: int, size: tuple, stride: tuple, *_unused: Any
) -> Tensor:
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


def _tensors(module: ScriptObject, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in module.attributes.items():
        if isinstance(value, ScriptObject):
            yield from _tensors(value, f"{prefix}{name}.")
        elif isinstance(value, Tensor):
            yield f"{prefix}{name}", value


def _inside(name: str) -> str:
    """A member's name without the archive's own folder."""
    return name.split("/", 1)[-1]
