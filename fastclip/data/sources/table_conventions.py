"""What tables do not say themselves: separators, the folder of relative paths, encodings."""

import os
import re
from collections.abc import Collection, Iterable

from fastclip.data.sources.records import parse

NUM_BYTES_LOOKED_AT = 4096
# The beginnings of files that are named like tables but are not tables in UTF-8. If one mark
# begins like another, the longer comes first.
MARKS = {
    b"\xff\xfe\0\0": "is in UTF-32: save it as UTF-8",
    b"\0\0\xfe\xff": "is in UTF-32: save it as UTF-8",
    b"\xff\xfe": "is in UTF-16, as Excel's 'Unicode text': save it as UTF-8",
    b"\xfe\xff": "is in UTF-16, as Excel's 'Unicode text': save it as UTF-8",
    b"\x1f\x8b": "is compressed by gzip: unpack it",
    b"PK\x03\x04": "is an Excel or zip file: save it as CSV in UTF-8",
    b"version https://git-lfs": "is a pointer of Git LFS: run git lfs pull in its repository",
    b"PAR1": "is a Parquet file: write it as CSV, or load it with dataset_type 'hf'",
}
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
SEPARATORS = ("\t", ",", ";", "|")  # those that are tried if none is given
ESCAPES = {"\\t": "\t", "\\|": "|", "\\,": ",", "\\;": ";"}  # as a shell passes them


def literal_separator(separator: str) -> str:
    """Return the separator that is meant, such as a tab if a shell passed a backslash and a t.

    Raises:
        ValueError: the separator is empty, contains a quote or a newline, or is a pattern, which
            pandas accepts and this package does not.
    """
    found = ESCAPES.get(separator, separator)
    if not found or any(character in found for character in '"\r\n'):
        raise ValueError(f"separator must not be empty, a quote or a newline, got {separator!r}")
    if found.startswith("\\") and found != "\\":
        raise ValueError(f"separator must be literal text, not a pattern, got {separator!r}")
    return found


def find_separator(header: str, wanted: Collection[str]) -> str:
    """Return the separator that splits the header of a table best, if the user has named none.

    The best separator gives the most of the wanted columns. If no separator gives any, it is a tab
    if the header has one, because a tab is rarely part of a name. Otherwise, and among equals, it
    is the one that gives the most columns, then the first in `SEPARATORS`: for a header of one
    column it is a tab, open_clip's default.

    Args:
        header: the first line of the table, without its newline.
        wanted: names of columns that are to be read.

    Example:
        >>> find_separator("filepath,title; in English", {"filepath", "title"})
        ','
    """

    names = {separator: parse(header, separator).values for separator in SEPARATORS}
    if "\t" in header and not any(set(found) & set(wanted) for found in names.values()):
        return "\t"
    return max(SEPARATORS, key=lambda s: (len(set(names[s]) & set(wanted)), len(names[s])))


def folder_of(names: Iterable[str], table: str) -> str:
    """Return the folder that a table's paths are relative to: its own, or the working directory.

    Args:
        names: the first paths of the table, as written in it.
        table: the path of the table.

    Raises:
        ValueError: the first name that exists in one of the two folders is a file in both, and
            the two files differ.
    """
    beside, working = os.path.dirname(os.path.abspath(table)), os.getcwd()
    if os.path.realpath(beside) == os.path.realpath(working):
        return beside
    for name in names:
        if os.path.isabs(name) or "\0" in name:
            continue
        found = [path for path in (beside, working) if os.path.isfile(os.path.join(path, name))]
        if len(found) == 2:
            first, second = (os.path.join(folder, name) for folder in found)
            if not os.path.samefile(first, second):
                raise ValueError(
                    f"paths of {table!r} must mean one file each, but {name!r} is {first!r} next "
                    f"to the table and {second!r} in the working directory; use absolute paths, or "
                    "run in the folder of the table"
                )
        if found:
            return found[0]
    return beside


def is_address(name: str) -> bool:
    """Return whether the name of an image is an address, such as a URL, and not a path."""
    return ADDRESS.match(name) is not None


def objection_to(beginning: bytes) -> str | None:
    """Return why a file with this beginning is not a table in UTF-8; None if it may be one."""
    for mark, objection in MARKS.items():
        if beginning.startswith(mark):
            return objection
    first_line = beginning.split(b"\n", 1)[0]
    if b"\0" in first_line:
        return "has zero bytes in its header: it may be in UTF-16, save it as UTF-8"
    if b"\r" in first_line.rstrip(b"\r"):
        return "has lines that end with a carriage return alone: save it with newlines"
    return None
