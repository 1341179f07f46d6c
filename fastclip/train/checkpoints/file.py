"""One file of a checkpoint: written whole, with a digest of all of it, and read with a check.

`torch.load` does not notice a changed byte of a tensor. The checksums of a zip archive, which its
files are, cover what is stored, but neither the directory that says where it is nor the headers
before each part. So the SHA-256 of every byte stands at the end, in the comment that an archive may
have: the file stays one, which `torch.load`, open_clip and unzip read as before, and that no copy
can part from its digest, as it can from a file beside it. Files without a digest, of earlier
versions, are read if the checksums of the zip hold.
"""

import hashlib
import os
import pickle
import stat
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import torch

from fastclip.atomic_file import Tell, replacing, save_tensors

MARK = b"fastclip: SHA-256 of all before this comment: "
COMMENT_SIZE = len(MARK) + 2 * hashlib.sha256().digest_size
# The record at the end of an archive, whose last two bytes are the size of the comment after it.
END, END_SIZE = b"PK\x05\x06", 22
CHUNK = 2**20
QUOTED = 100  # characters of an error of another library


class UnusableCheckpoint(ValueError):
    """A file is not a checkpoint that can be read, or not a whole one.

    Attributes:
        reason: a clause that says why.
    """

    def __init__(self, path: str | os.PathLike, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{shown(self.path)} cannot be resumed from: {self.reason}"


def write_checkpoint(
    path: str | os.PathLike, content: dict[str, Any], tell: Tell = lambda text: None
) -> None:
    """`torch.save` and a digest, to a file that is whole or not there; see `replacing`.

    Raises:
        CannotWrite: the disk or the directory refuses; an older file at `path` is left as it was.
    """
    with replacing(path, tell) as file:
        signed = _Signed(file)
        save_tensors(content, signed)
        signed.sign()


def read_checkpoint(path: str | os.PathLike, device: str = "cpu") -> Any:
    """The content of a file, all of whose bytes are what was written.

    Args:
        device: "meta" reads no tensor, and checks the file all the same.

    Raises:
        FileNotFoundError: there is no file.
        UnusableCheckpoint: it is no file, damaged, or holds more than tensors and plain values.
    """
    return _read(path, device, _objection_to_bytes)


def objection_to(path: str | os.PathLike) -> str | None:
    """Why a file cannot be trusted, as a clause, or None if all its bytes are what was written."""
    try:
        read_checkpoint(path, "meta")
    except UnusableCheckpoint as error:
        return error.reason
    except FileNotFoundError:
        return "it is not there"
    return None


def epoch_in(path: str | os.PathLike) -> int | None:
    """Which epoch a file says that it is of, or None; tensors are not looked at."""
    try:
        content = _read(path, "meta", lambda file: None)
    except (UnusableCheckpoint, FileNotFoundError):
        return None
    epoch = content.get("epoch") if isinstance(content, dict) else None
    return epoch if isinstance(epoch, int) else None


def shown(path: str | os.PathLike) -> str:
    """A path for a message: on one line, and not longer than is read."""
    text = os.fspath(path)
    text = text if len(text) <= 1000 else f"{text[:200]}... ({len(text):,} characters)"
    return ascii(text) if any(ord(character) < 32 for character in text) else text


class _Signed:
    """Passes on what `torch.save` writes, and digests it; the last two bytes wait for `sign`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._waiting = b""

    def write(self, data: Any) -> int:
        view = memoryview(data)
        if len(view) < 2:
            view = memoryview(self._waiting + bytes(view))
        else:
            self._pass_on(self._waiting)
        self._pass_on(view[:-2])
        self._waiting = bytes(view[-2:])
        return len(data)

    def flush(self) -> None:
        self._file.flush()

    def sign(self) -> None:
        """Write the size of the comment, which `torch.save` has none of, and the comment."""
        self._pass_on(COMMENT_SIZE.to_bytes(2, "little"))
        self._file.write(MARK + self._digest.hexdigest().encode())

    def _pass_on(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self._file.write(data)


def _read(
    path: str | os.PathLike, device: str, objection_to_bytes: Callable[[BinaryIO], str | None]
) -> Any:
    try:
        if (objection := _objection_to_kind(path)) is not None:
            raise UnusableCheckpoint(path, objection)
        # By a file, as torch takes only paths that are UTF-8.
        with open(path, "rb") as file:
            if (objection := objection_to_bytes(file)) is not None:
                raise UnusableCheckpoint(path, objection)
            file.seek(0)
            return torch.load(file, map_location=device, weights_only=True)
    except UnusableCheckpoint:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no checkpoint at {shown(path)}") from None
    except OSError as error:
        raise UnusableCheckpoint(path, f"it cannot be read ({error.strerror or error})") from error
    except pickle.UnpicklingError:
        reason = "it holds more than tensors and plain values, and reading that could run code"
        raise UnusableCheckpoint(path, reason) from None
    except Exception as error:  # a damaged file can fail in any way at all
        raise UnusableCheckpoint(path, f"it is not a whole file ({_brief(error)})") from error


def _objection_to_kind(path: str | os.PathLike) -> str | None:
    if "\0" in os.fspath(path):
        return "a path has no null character"
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        return "it is a directory, and a checkpoint is a file"
    if not stat.S_ISREG(status.st_mode):
        return "it is a pipe or a device, and a checkpoint is a file"
    return None if status.st_size else "it is empty, and not a whole file"


def _objection_to_bytes(file: BinaryIO) -> str | None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - COMMENT_SIZE))
    comment = file.read()
    if comment.startswith(MARK):
        digest = _digest_of(file, size - COMMENT_SIZE)
        whole = comment[len(MARK) :] == digest.encode()
        return None if whole else "it is damaged: its digest is not that of its bytes"
    if comment[-END_SIZE:].startswith(END) and comment.endswith(b"\0\0"):
        return _objection_to_parts(file)
    return "it is not a whole file of torch.save (it has another end)"


def _digest_of(file: BinaryIO, size: int) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    file.seek(0)
    while size > 0 and (num := file.readinto(buffer[: min(size, CHUNK)])):
        digest.update(buffer[:num])
        size -= num
    return digest.hexdigest()


def _objection_to_parts(file: BinaryIO) -> str | None:
    """Of a file without a digest, by the checksums that a zip archive has of its parts."""
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        is_stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
        if not is_stored or sum(part.file_size for part in parts) > size:
            return "it is not a whole file of torch.save (its parts are not stored side by side)"
        damaged = archive.testzip()
    return None if damaged is None else f"its part {damaged[:QUOTED]!r} is damaged"


def _brief(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:QUOTED]
