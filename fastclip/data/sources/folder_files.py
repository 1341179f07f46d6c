"""Lists the files in a folder and in all folders below it."""

import os
from typing import NamedTuple

from fastclip.data.sources.file_names import is_ignored


class Folder(NamedTuple):
    """The contents of a folder; paths are relative to it, with "/" between their parts, sorted.

    Attributes:
        files: files and links to files, broken links included.
        folders: the folders directly in this folder, empty ones included.
        others: what is neither a file nor a folder (sockets, devices), and links to a folder that
            contains the link.
    """

    files: list[str]
    folders: list[str]
    others: list[str]


def list_folder(root: str) -> Folder:
    """List a folder, except for names that `is_ignored`. Links to folders are followed.

    Raises:
        NotADirectoryError: `root` is not a folder.
        OSError: a folder below `root` cannot be listed.
    """
    if not os.path.isdir(root):
        raise NotADirectoryError(f"root must be a folder, got {root!r}")
    files: list[str] = []
    others: list[str] = []
    folders = _list(root, "", (os.path.realpath(root),), files, others)
    return Folder(sorted(files), sorted(folders), sorted(others))


def _list(
    folder: str, prefix: str, above: tuple[str, ...], files: list[str], others: list[str]
) -> list[str]:
    """Append the files and others below; return the folders directly in this one."""
    folders = []
    with os.scandir(folder) as entries:
        found = [(entry, _is_folder(entry)) for entry in entries]
    for entry, is_folder in found:
        path = prefix + entry.name
        if is_ignored(f"{entry.name}/" if is_folder else entry.name):
            continue
        if is_folder:
            real = os.path.realpath(entry.path)
            if entry.is_symlink() and real in above:
                others.append(path)
                continue
            folders.append(path)
            _list(entry.path, f"{path}/", (*above, real), files, others)
        else:
            (files if _is_file(entry) else others).append(path)
    return folders


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_file(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True
