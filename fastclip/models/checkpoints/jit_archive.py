"""Reading the tensors of a TorchScript archive, such as OpenAI's files, without running its code.

Such an archive is like one of `torch.save` (see `torch_file.py`), except that it has the program
under `code/` and a tree of modules in the place of plain values. Modules become bags of attributes;
`code/` is never opened.

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
    """Return the state dict of the module in a TorchScript archive, on the CPU; see `read_tensors`.

    Raises:
        UnsafeCheckpointError: the pickle asks for anything but tensors and containers.
        CheckpointError: the archive is damaged, or holds no module, or holds modules that refer to
            each other without end.
    """
    with reading(path, "TorchScript archive"):
        module, storages = read_archive(Path(path))
        if not isinstance(module, ScriptObject):
            raise CheckpointError(f"it holds a {type(module).__name__}, not a module")
        # TorchScript always writes right checksums; torch.save can be told to leave them out.
        return read_tensors(path, _tensors(module), storages, has_checksums=True)


def _tensors(module: ScriptObject) -> dict[str, StoredTensor]:
    """Return the tensors of a tree of modules, by the names that a state dict gives them.

    A module that is used in several places has several names, as in a state dict. Modules that
    refer to each other, or a module that holds itself, would have names without end.
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
            raise CheckpointError(
                f"it has more than {MOST_MODULES:,} modules or {MOST_MEMBERS:,} tensors, or "
                f"modules nested deeper than {DEEPEST_MODULE}, counted once for each name"
            )
    return tensors
