"""Reads and writes the file of a checkpoint, with a digest of all bytes that reading checks.

`torch.load` does not notice a changed byte of a tensor. Its files are zip archives, whose checksums
cover the stored parts, but neither the archive's directory nor the headers before each part. So the
SHA-256 of all bytes is stored at the end of the file, in the comment that an archive may have.
`torch.load`, open_clip and unzip read such a file as before, and a copy always contains its digest,
which a separate file could lose. Files of earlier versions have no digest; they are read if the
checksums of the archive hold.
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
QUOTED = 100  # characters that are quoted from an error of another library


class UnusableCheckpoint(ValueError):
    """The error for a file that is not a checkpoint, or is incomplete or damaged.

    Attributes:
        reason: a clause that says why.
    """

    def __init__(self, path: str | os.PathLike, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"cannot resume from {shown(self.path)}: {self.reason}"


def write_checkpoint(
    path: str | os.PathLike, content: dict[str, Any], tell: Tell = lambda text: None
) -> None:
    """Write `content` by `torch.save`, with a digest, to a file that is never partly written.

    See `replacing`.

    Raises:
        CannotWrite: the file cannot be written; an older file at `path` is left as it was.
    """
    with replacing(path, tell) as file:
        signed = _Signed(file)
        save_tensors(content, signed)
        signed.sign()


def read_checkpoint(path: str | os.PathLike, device: str = "cpu") -> Any:
    """Return the content of a file after checking that all its bytes are as they were written.

    Args:
        device: "meta" reads no tensors, but checks the whole file.

    Raises:
        FileNotFoundError: there is no file at `path`.
        UnusableCheckpoint: `path` is not a file, or the file is damaged, or it holds more than
            tensors and plain values.
    """
    return _read(path, device, _objection_to_bytes)


def objection_to(path: str | os.PathLike) -> str | None:
    """Return why a file cannot be used, as a clause, or None if all bytes are as written."""
    try:
        read_checkpoint(path, "meta")
    except UnusableCheckpoint as error:
        return error.reason
    except FileNotFoundError:
        return "it is not there"
    return None


def epoch_in(path: str | os.PathLike) -> int | None:
    """Return the epoch that a file names, or None; tensors are not read."""
    try:
        content = _read(path, "meta", lambda file: None)
    except (UnusableCheckpoint, FileNotFoundError):
        return None
    epoch = content.get("epoch") if isinstance(content, dict) else None
    return epoch if isinstance(epoch, int) else None


def shown(path: str | os.PathLike) -> str:
    """Return a path for a message: on one line, and shortened if it is very long."""
    text = os.fspath(path)
    text = text if len(text) <= 1000 else f"{text[:200]}... ({len(text):,} characters)"
    return ascii(text) if any(ord(character) < 32 for character in text) else text


class _Signed:
    """Writes and digests the bytes of `torch.save`, but holds the last two back for `sign`."""

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
        """Write the comment and, in place of the zero of `torch.save`, the size of the comment."""
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
        # An open file, because torch only takes paths that are UTF-8.
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
        reason = "it holds more than tensors and plain values, and reading it could run code"
        raise UnusableCheckpoint(path, reason) from None
    except Exception as error:  # a damaged file can fail in any way at all
        raise UnusableCheckpoint(path, f"it is not a whole file ({_brief(error)})") from error


def _objection_to_kind(path: str | os.PathLike) -> str | None:
    if "\0" in os.fspath(path):
        return "its path contains a null character"
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        return "it is a directory, but a checkpoint is a file"
    if not stat.S_ISREG(status.st_mode):
        return "it is a pipe or a device, but a checkpoint is a file"
    return None if status.st_size else "it is empty, and not a whole file"


def _objection_to_bytes(file: BinaryIO) -> str | None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - COMMENT_SIZE))
    comment = file.read()
    if comment.startswith(MARK):
        digest = _digest_of(file, size - COMMENT_SIZE)
        whole = comment[len(MARK) :] == digest.encode()
        return None if whole else "it is damaged: its bytes do not match the digest in it"
    if comment[-END_SIZE:].startswith(END) and comment.endswith(b"\0\0"):
        return _objection_to_parts(file)
    return "it is not a whole file of torch.save (its end is missing)"


def _digest_of(file: BinaryIO, size: int) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    file.seek(0)
    while size > 0 and (num := file.readinto(buffer[: min(size, CHUNK)])):
        digest.update(buffer[:num])
        size -= num
    return digest.hexdigest()


def _objection_to_parts(file: BinaryIO) -> str | None:
    """Return what is wrong with a file without a digest, by its archive's checksums, or None."""
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        is_stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
        if not is_stored or sum(part.file_size for part in parts) > size:
            return "it is not a file of torch.save (its parts are compressed or overlap)"
        damaged = archive.testzip()
    return None if damaged is None else f"its part {damaged[:QUOTED]!r} is damaged"


def _brief(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:QUOTED]
