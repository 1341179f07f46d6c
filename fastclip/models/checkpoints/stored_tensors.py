"""Tensors as a PyTorch file describes them, and where their bytes lie in the file.

A tensor's dtype, shape and place are read first. The numbers of wanted tensors are then mapped from
the file, so they take memory only when they are read. Such a tensor changes if the file changes,
and several tensors may be views of the same bytes: a caller that keeps tensors must copy them.
"""

import math
import mmap
import zlib
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastclip.data.limits import LARGEST_EXPANSION, MOST_DIMENSIONS, SMALL_EXPANSION
from fastclip.data.quoting import named, quoted
from fastclip.models.checkpoints.errors import CheckpointError, UnsafeCheckpointError
from fastclip.models.checkpoints.plain_pickle import Name, Unread

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
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
# A storage of bytes, whose tensors have their own dtypes.
UNTYPED = "UntypedStorage"
TORCH_DTYPES = {
    name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)
}


class StoredStorage(NamedTuple):
    dtype: torch.dtype
    key: str
    num_elements: int


class StoredTensor(NamedTuple):
    """A tensor over elements of a storage, with the arguments of `torch.as_strided`."""

    storage: StoredStorage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        return math.prod(self.size) * self.dtype.itemsize


class Place(NamedTuple):
    """Where the bytes of a storage lie in the file, and their CRC-32 if the file states it."""

    start: int
    size: int
    crc: int | None = None


def stored_storage(persistent_id: Any) -> StoredStorage:
    """Return the storage that a pickle's reference to something outside of it stands for.

    Raises:
        UnsafeCheckpointError: the reference is not to a storage.
    """
    kind, name, key, _, num_elements, *view = persistent_id
    if kind != "storage":
        raise UnsafeCheckpointError(
            f"its pickle has a reference to {quoted(kind)}, not to a storage"
        )
    if not isinstance(name, Name) or view not in ([], [None]):
        raise ValueError(f"a storage has the unknown kind {quoted(name)}")
    dtype = torch.uint8 if name.name == UNTYPED else STORAGE_DTYPES[name.name]
    return StoredStorage(dtype, _text(key), _natural(num_elements))


def stored_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, *_unused: Any
) -> StoredTensor | Unread:
    """Read the arguments of `torch._utils._rebuild_tensor_v2`, without gradients and hooks."""
    if len(_unused) > 2 and _unused[2]:  # marks of conjugate or negative views
        return Unread("a tensor with marks")
    return _tensor(storage, offset, size, stride, storage.dtype)


def stored_tensor_of_dtype(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any,
    marks: Any = None,
) -> StoredTensor | Unread:  # fmt: skip
    """Read `torch._utils._rebuild_tensor_v3`, which is for dtypes that have no kind of storage."""
    if marks:
        return Unread("a tensor with marks")
    return _tensor(storage, offset, size, stride, TORCH_DTYPES[dtype.name])


def read_tensors(
    path: str | PathLike,
    tensors: Mapping[str, StoredTensor],
    places: Mapping[str, Place],
    has_checksums: bool = False,
) -> dict[str, Tensor]:
    """Map the numbers of tensors, by name, from a file.

    Args:
        places: where the storages lie, by key.
        has_checksums: compare the bytes of each storage with the checksum of its place.

    Raises:
        CheckpointError: the tensors together would be far larger than the file.
        Exception: of any type: the description of a tensor does not fit the file.
    """
    with open(path, "rb") as file:
        # A page that is written to is copied first: the file never changes.
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    require_proportion(tensors.values(), len(content))
    storages: dict[str, StoredStorage] = {}
    for tensor in tensors.values():
        if storages.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise ValueError(f"storage {named(tensor.storage.key)} is described in two ways")
    mapped = {}
    for key, storage in storages.items():
        if has_checksums:
            _require_checksum(content, places[key], key)
        mapped[key] = _map(content, storage, places[key])
    return {name: _view(mapped[tensor.storage.key], tensor) for name, tensor in tensors.items()}


def require_proportion(tensors: Iterable[StoredTensor], num_bytes: int) -> None:
    """Raise if tensors would be much larger together than the `num_bytes` that they are views of.

    Raises:
        CheckpointError: the tensors are too large.
    """
    total = sum(tensor.num_bytes for tensor in tensors)
    if total > max(LARGEST_EXPANSION * num_bytes, SMALL_EXPANSION):
        raise CheckpointError(
            f"its tensors would take {total:,} bytes, and the file has {num_bytes:,}: they are "
            "views of each other; save copies of them with torch.save"
        )


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, dtype: torch.dtype) -> StoredTensor:
    if not isinstance(storage, StoredStorage) or len(size) > MOST_DIMENSIONS:
        raise TypeError("a tensor without a storage, or of too many dimensions")
    size, stride = (tuple(map(_natural, numbers)) for numbers in (size, stride))
    return StoredTensor(storage, _natural(offset), size, stride, dtype)


def _map(content: mmap.mmap, storage: StoredStorage, place: Place) -> Tensor:
    num_bytes = storage.num_elements * storage.dtype.itemsize
    if num_bytes > place.size or place.start + place.size > len(content):  # cut off
        raise ValueError(
            f"storage {named(storage.key)} must have {num_bytes:,} bytes, and has {place.size:,}"
        )
    if num_bytes == 0:
        return torch.empty(0, dtype=storage.dtype)
    if place.start % storage.dtype.itemsize:  # an archive that was packed again may be unaligned
        content, start = bytearray(content[place.start : place.start + num_bytes]), 0
    else:
        start = place.start
    return torch.frombuffer(content, dtype=storage.dtype, count=storage.num_elements, offset=start)


def _require_checksum(content: mmap.mmap, place: Place, key: str) -> None:
    with memoryview(content) as view, view[place.start : place.start + place.size] as own:
        if zlib.crc32(own) != place.crc:
            raise ValueError(f"storage {named(key)} has another checksum than the file states")


def _view(storage: Tensor, tensor: StoredTensor) -> Tensor:
    return storage.view(tensor.dtype).as_strided(tensor.size, tensor.stride, tensor.offset)


def _natural(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 2**63:
        raise ValueError(f"a size or an offset of a tensor is {quoted(number)}")
    return number


def _text(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a storage's key is a {type(key).__name__}")
    return key
