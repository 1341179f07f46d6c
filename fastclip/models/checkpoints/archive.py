"""The members of a zip archive as PyTorch writes it: stored, so that each is a part of the file."""

import os
import struct
import zipfile
from os import PathLike
from typing import BinaryIO

from fastclip.data.limits import MOST_MEMBERS
from fastclip.data.quoting import named
from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.stored_tensors import Place

LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and of the extra field
SIGNATURE = b"PK\x03\x04"


def read_members(path: str | PathLike) -> dict[str, Place]:
    """Where the members of an archive lie, by their names without the archive's own folder.

    Nothing is unpacked: a member that is compressed, and might become any size, is refused. Only
    programs may be, which are not read and have no place here.

    Raises:
        CheckpointError: a member is compressed or encrypted, they have more bytes than the file,
            are too many, or two have one name.
        zipfile.BadZipFile: it is damaged.
    """
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        if len(archive.infolist()) > MOST_MEMBERS:
            raise CheckpointError(f"it has more than {MOST_MEMBERS:,} members")
        members = [member for member in archive.infolist() if not is_program(member.filename)]
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise CheckpointError(
                    f"its member {named(member.filename)} is compressed or encrypted, which "
                    "PyTorch's files are not"
                )
        size = os.fstat(file.fileno()).st_size
        if sum(member.file_size for member in members) > size:
            raise CheckpointError(f"its members have more bytes than the file, {size:,}")
        places = {_inside(member.filename): _place(file, member) for member in members}
    if len(places) < len(members):
        raise CheckpointError("two of its members have the same name")
    return places


def is_program(name: str) -> bool:
    """Whether a member is of a TorchScript program, by its name."""
    return _inside(name).startswith("code/")


def _place(file: BinaryIO, member: zipfile.ZipInfo) -> Place:
    file.seek(member.header_offset)
    header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size:
        raise zipfile.BadZipFile(f"the member {named(member.filename)} is cut off")
    signature, name_length, extra_length = LOCAL_HEADER.unpack(header)
    if signature != SIGNATURE:
        raise zipfile.BadZipFile(f"there is no member {named(member.filename)} where it should be")
    start = member.header_offset + LOCAL_HEADER.size + name_length + extra_length
    return Place(start, member.file_size, member.CRC)


def _inside(name: str) -> str:
    return name.split("/", 1)[-1]
