"""Finds how much of the host's memory a program may still take, under all limits.

A container, a batch system's job or a service is a control group, with groups inside and around it;
the smallest of their limits ends a program. Pages of files that a group has read and that nobody
maps count as free, because the kernel drops them first.

    version 2   memory.max, memory.current; memory.stat has inactive_file
    version 1   memory.limit_in_bytes, memory.usage_in_bytes; total_inactive_file

/proc/self says where groups are mounted, and which group this process is in. A file that does not
exist, or says "max", sets no limit.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/")


class _Files(NamedTuple):
    """The names of the files of one version of control groups, and the line of its memory.stat."""

    limit: str
    used: str
    cached: str


OF_VERSION_1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
OF_VERSION_2 = _Files("memory.max", "memory.current", "inactive_file")


def available_host_bytes(root: Path = ROOT) -> int:
    """Return the bytes of the host's memory that this process may still take.

    Args:
        root: of the file system, for tests.
    """
    fields = _fields(root / "proc/meminfo")
    return min([1024 * int(fields["MemAvailable:"]), *_left_by_limits(root)])


def _left_by_limits(root: Path) -> Iterator[int]:
    for files, mounted, group in _hierarchies(root):
        for directory in (group, *group.parents):
            left = _left_in(directory, files)
            if left is not None:
                yield left
            if directory == mounted:
                break


def _hierarchies(root: Path) -> Iterator[tuple[_Files, Path, Path]]:
    """Yield the files, mount point and this process's directory of each hierarchy with limits."""
    own = _own_groups(root)
    for line in _lines(root / "proc/self/mountinfo"):
        # id parent device root mount-point options... - type source options
        before, _, after = line.partition(" - ")
        (_, _, _, top, place, *_), (kind, _, options) = before.split(), after.split()
        if kind == "cgroup2":
            files, path = OF_VERSION_2, own.get("")
        elif kind == "cgroup" and "memory" in options.split(","):
            files, path = OF_VERSION_1, own.get("memory")
        else:
            continue
        mounted = root / place.lstrip("/")
        # Inside a container, its own group may be the only one mounted, under its outer path.
        is_below = path is not None and Path(path).is_relative_to(top)
        yield files, mounted, mounted / (Path(path).relative_to(top) if is_below else "")


def _own_groups(root: Path) -> dict[str, str]:
    """Return the path of this process's group by controller; "" is the one of version 2."""
    own = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)
    return own


def _left_in(directory: Path, files: _Files) -> int | None:
    try:
        limit, used = (int((directory / name).read_text()) for name in (files.limit, files.used))
    except (OSError, ValueError):
        return None
    cached = int(_fields(directory / "memory.stat").get(files.cached, 0))
    return max(0, limit - max(0, used - cached))


def _fields(path: Path) -> dict[str, str]:
    """The first two words of each line."""
    return dict(line.split()[:2] for line in _lines(path))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
