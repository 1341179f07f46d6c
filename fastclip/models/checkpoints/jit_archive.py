"""The tensors of a TorchScript archive, such as OpenAI's files, without running what is in it.

An archive is one of `torch.save`, see `torch_file.py`, with `code/`, the program, and in the place
of plain values a tree of modules. Modules become bags of attributes; `code/` stays shut.

Source: torch/csrc/jit/docs/serialization.md in PyTorch.
"""

import zipfile
from os import PathLike
from pathlib import Path

from torch import Tensor

from fastclip.data.limits import DEEPEST_MODULE, LONGEST_NAME, MOST_MEMBERS, MOST_MODULES
from fastclip.models.checkpoints.archive import is_program
from fastclip.models.checkpoints.errors import CheckpointError, reading
from fastclip.models.checkpoints.plain_pickle import ScriptObject
from fastclip.models.checkpoints.stored_tensors import StoredTensor, read_tensors
from fastclip.models.checkpoints.torch_file import read_archive


def is_jit_archive(path: str | PathLike) -> bool:
    """Whether `path` is a zip with a TorchScript program in it."""
    with reading(path):
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(map(is_program, archive.namelist()))


def read_jit_archive(path: str | PathLike) -> dict[str, Tensor]:
    """The state dict of the module in a TorchScript archive, on the CPU; see `read_tensors`.

    Raises:
        UnsafeCheckpointError: the pickle asks for anything but tensors and containers.
        CheckpointError: the archive is damaged, holds no module, or modules that refer to each
            other without end.
    """
    with reading(path, "TorchScript archive"):
        module, storages = read_archive(Path(path))
        if not isinstance(module, ScriptObject):
            raise CheckpointError(f"it holds a {type(module).__name__}, not a module")
        # Their writer's checksums are right for certain; in torch.save they can be turned off.
        return read_tensors(path, _tensors(module), storages, has_checksums=True)


def _tensors(module: ScriptObject) -> dict[str, StoredTensor]:
    """The tensors of a tree of modules, by the names that a state dict gives them.

    A module that stands in several places has several names, as in a state dict. A few that refer
    to each other, or one that holds itself, would have names without end.
    """
    tensors: dict[str, StoredTensor] = {}
    waiting, seen = [("", module)], 0
    while waiting:
        prefix, module = waiting.pop()
        for name, value in module.attributes.items():
            path = f"{prefix}{name}"
            if isinstance(value, ScriptObject):
                waiting.append((f"{path}.", value))
            elif isinstance(value, StoredTensor):
                tensors[path] = value
            if len(path) > LONGEST_NAME:
                raise CheckpointError("the name of a tensor is too long")
        seen += 1
        if (
            seen + len(waiting) > MOST_MODULES
            or len(tensors) > MOST_MEMBERS
            or prefix.count(".") > DEEPEST_MODULE
        ):
            raise CheckpointError("its modules are too many or too deep, by all their names")
    return tensors
