"""Reading files of `torch.save`, in both of its formats, without loading the tensors' numbers.

A zip archive has `data.pkl`, a pickle, and `data/0`, `data/1`, ..., the bytes of its storages. The
older format is a sequence of pickles: the fourth is the content and the fifth lists the storages,
whose bytes follow. TorchScript's archives are read with the same table, see `jit_archive.py`.

Source: torch/serialization.py in PyTorch.
"""

import io
import os
import struct
from collections.abc import Callable
from mmap import ACCESS_READ, mmap
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from fastclip.models.checkpoints.archive import read_members
from fastclip.models.checkpoints.plain_pickle import Unread, read_plain_pickle
from fastclip.models.checkpoints.stored_tensors import (
    STORAGE_DTYPES,
    TORCH_DTYPES,
    UNTYPED,
    Place,
    StoredStorage,
    stored_storage,
    stored_tensor,
    stored_tensor_of_dtype,
)

LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
COUNT = struct.Struct("<q")  # of elements, before the bytes of a storage in the older format
SCRIPT_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
# The prefix of the functions that make other tensors than dense ones with their own numbers.
OTHER_TENSORS = "torch._utils._rebuild_"


def _same(value: Any, *_unused: Any) -> Any:
    return value


def _dict() -> dict:
    return {}


def _of_type(function: Any, _type: Any, arguments: Any, _attributes: Any) -> Any:
    """Read `torch._tensor._rebuild_from_type_v2`: a tensor on which attributes were set."""
    make = MAKERS[str(function)]
    return Unread(str(function)) if make is None else make(*arguments)


# All names that a file may use, with the functions that make their values; see `read_plain_pickle`.
MAKERS: dict[str, Callable[..., Any] | None] = {
    "torch._utils._rebuild_tensor_v2": stored_tensor,
    "torch._utils._rebuild_tensor_v3": stored_tensor_of_dtype,
    "torch._utils._rebuild_parameter": _same,
    "torch._utils._rebuild_parameter_with_state": _same,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.Size": _same,
    "collections.OrderedDict": _dict,
    **{f"torch.jit._pickle.{name}": _same for name in SCRIPT_LISTS},
    **{
        f"{module}.{name}": None
        for name in (*STORAGE_DTYPES, UNTYPED)
        for module in ("torch", "torch.cuda", "torch.storage")
    },
    **{f"torch.{name}": None for name in TORCH_DTYPES},
    **{
        f"{OTHER_TENSORS}{kind}": None
        for kind in (
            "sparse_tensor", "sparse_csr_tensor", "qtensor", "nested_tensor",
            "meta_tensor_no_storage", "wrapper_subclass", "device_tensor_from_numpy",
            "device_tensor_from_cpu_tensor",
        )
    },
    # Names that a training checkpoint has besides its weights.
    **dict.fromkeys(
        """torch.Tensor torch.nn.parameter.Parameter torch.device torch.serialization._get_layout
        torch.per_tensor_affine torch.per_channel_affine collections.Counter _codecs.encode
        __builtin__.set builtins.set __builtin__.bytearray builtins.bytearray __builtin__.complex
        builtins.complex""".split()
    ),
}  # fmt: skip


class TorchFile(NamedTuple):
    """The content of a file of `torch.save`.

    Attributes:
        content: plain values and `StoredTensor`s; values that were not made are an `Unread`.
        places: where the storages lie in the file, by key.
    """

    content: Any
    places: dict[str, Place]


def read_archive(path: Path) -> TorchFile:
    """Read a zip archive that `torch.save` or TorchScript wrote.

    Raises:
        Exception: as `read_members` and `read_plain_pickle`.
    """
    members = read_members(path)
    if members.get("byteorder") is not None and _bytes(path, members["byteorder"]) != b"little":
        raise ValueError("its numbers are not in little-endian byte order")
    pickled = io.BytesIO(_bytes(path, members["data.pkl"]))
    content = read_plain_pickle(pickled, MAKERS, stored_storage)
    storages = {name.removeprefix("data/"): place for name, place in members.items()}
    return TorchFile(content, storages)


def read_legacy_file(path: str | PathLike) -> TorchFile:
    """Read a file in the older format of `torch.save`, before it wrote zip archives.

    Raises:
        Exception: as `read_plain_pickle`.
    """
    storages: dict[str, StoredStorage] = {}

    def find(persistent_id: Any) -> StoredStorage:
        storage = stored_storage(persistent_id)
        return storages.setdefault(storage.key, storage)

    # Reading gigabytes from a file would allocate them first; a map returns only what there is.
    with open(path, "rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as file:
        magic, protocol, system = (_plain(file) for _ in range(3))
        if (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
            raise ValueError("it is a pickle that torch.save did not write")
        if not system["little_endian"]:
            raise ValueError("its numbers are not in little-endian byte order")
        content = read_plain_pickle(file, MAKERS, find)
        places = {}
        for key in _plain(file):
            (count,) = COUNT.unpack(file.read(COUNT.size))
            places[key] = Place(file.tell(), count * storages[key].dtype.itemsize)
            if not 0 <= places[key].size <= len(file):
                raise ValueError("a storage is larger than the file")
            file.seek(places[key].size, os.SEEK_CUR)
    return TorchFile(content, places)


def _plain(file: mmap) -> Any:
    return read_plain_pickle(file, MAKERS, stored_storage)


def _bytes(path: Path, place: Place) -> bytes:
    with open(path, "rb") as file:
        file.seek(place.start)
        return file.read(place.size)
