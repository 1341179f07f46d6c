"""Finding the uncompressed members of a zip archive, as PyTorch writes it, in the file."""

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
    """Return where the members of an archive lie, by name without the archive's top folder.

    Nothing is unpacked. A compressed member is refused, because it could grow to any size. Members
    of a TorchScript program may be compressed: they are not read, and are left out of the result.

    Raises:
        CheckpointError: a member is compressed or encrypted, the members have more bytes than the
            file, there are too many of them, or two have the same name.
        zipfile.BadZipFile: the archive is damaged.
    """
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        if len(archive.infolist()) > MOST_MEMBERS:
            raise CheckpointError(
                f"the archive has more members than the {MOST_MEMBERS:,} that are read at most"
            )
        members = [member for member in archive.infolist() if not is_program(member.filename)]
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise CheckpointError(
                    f"the archive's member {named(member.filename)} is compressed or encrypted, "
                    "but PyTorch writes plain members: save the weights again with torch.save"
                )
        size = os.fstat(file.fileno()).st_size
        if sum(member.file_size for member in members) > size:
            raise CheckpointError(
                f"the archive's members claim more bytes than the whole file has, {size:,}"
            )
        places = {_inside(member.filename): _place(file, member) for member in members}
    if len(places) < len(members):
        raise CheckpointError("two members of the archive have the same name")
    return places


def is_program(name: str) -> bool:
    """Whether the name of a member says that it belongs to a TorchScript program."""
    return _inside(name).startswith("code/")


def _place(file: BinaryIO, member: zipfile.ZipInfo) -> Place:
    file.seek(member.header_offset)
    header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size:
        raise zipfile.BadZipFile(f"the member {named(member.filename)} is cut off")
    signature, name_length, extra_length = LOCAL_HEADER.unpack(header)
    if signature != SIGNATURE:
        raise zipfile.BadZipFile(
            f"the member {named(member.filename)} is not where the archive's index says"
        )
    start = member.header_offset + LOCAL_HEADER.size + name_length + extra_length
    return Place(start, member.file_size, member.CRC)


def _inside(name: str) -> str:
    return name.split("/", 1)[-1]
