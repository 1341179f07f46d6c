"""Which shards a specification means, and how many samples their folder says they hold.

data/{000..012}.tar          numbers, with their leading zeros; {a,b} lists
data/*.tar                   the shell's wildcards, sorted
one/*.tar::two/{0..9}.tar    both
"""

import glob
import json
import os
import re

BRACES = re.compile(r"\{([^{}]*)\}")
NUMBERS = re.compile(r"(\d+)\.\.(\d+)")
WILDCARDS = re.compile(r"[*?\[]")
OTHER = re.compile(r"pipe:|[a-z][a-z0-9+]*://")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def shard_paths(spec: str) -> list[str]:
    """Return the paths, in the order of the specification; a path may be missing, unless all are.

    Raises:
        FileNotFoundError: no shard exists.
        ValueError: `spec` is empty or not of local, uncompressed files, its braces cannot be
            expanded, or a shard is in it twice.
    """
    paths = [
        path
        for pattern in spec.split("::")
        for expanded in expand_braces(pattern)
        for path in _matching(expanded)
    ]
    for path in paths:
        if OTHER.match(path):
            raise ValueError(f"shards must be local files, got {path!r}")
        if path.endswith(COMPRESSED):
            raise ValueError(f"shards must not be compressed (no byte can be sought): {path!r}")
    repeated = len(paths) - len(set(paths))
    if repeated:
        raise ValueError(f"shards must not repeat, {repeated} of {spec!r} do")
    if not any(os.path.exists(path) for path in paths):
        raise FileNotFoundError(f"no shard of {spec!r} exists")
    return paths


def expand_braces(pattern: str) -> list[str]:
    """Expand all `{000..012}` and `{a,b}`, the leftmost slowest.

    Raises:
        ValueError: `pattern` is empty, its braces do not match, or hold neither of the two.
    """
    if not pattern:
        raise ValueError("shards must be named, got an empty name")
    found = BRACES.search(pattern)
    if found is None:
        if "{" in pattern or "}" in pattern:
            raise ValueError(f"shards must have matching braces, got {pattern!r}")
        return [pattern]
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [
        expanded
        for choice in _choices(found[1], pattern)
        for expanded in expand_braces(before + choice + after)
    ]


def shard_sizes(paths: list[str]) -> list[int | None]:
    """Return what `sizes.json` beside each shard says of it: a number of samples, or None."""
    tables = {folder: _sizes_in(folder) for folder in {os.path.dirname(path) for path in paths}}
    return [tables[os.path.dirname(path)].get(os.path.basename(path)) for path in paths]


def stated_length(paths: list[str]) -> int | None:
    """Return the sum of the numbers in the files `__len__` beside the shards, None without one."""
    lengths = []
    for folder in sorted({os.path.dirname(path) for path in paths}):
        try:
            with open(os.path.join(folder, "__len__"), encoding="utf-8") as file:
                lengths.append(int(file.read()))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueError(f"{folder}/__len__ must hold a number: {error}") from None
    return sum(lengths)


def _choices(inside: str, pattern: str) -> list[str]:
    if numbers := NUMBERS.fullmatch(inside):
        first, last = numbers.groups()
        if int(first) > int(last):
            raise ValueError(f"shards must have ascending numbers, got {pattern!r}")
        width = len(first) if first.startswith("0") else 0
        return [str(i).zfill(width) for i in range(int(first), int(last) + 1)]
    if "," in inside:
        return inside.split(",")
    raise ValueError(f"shards must have {{0..9}} or {{a,b}} in their braces, got {pattern!r}")


def _matching(path: str) -> list[str]:
    if not WILDCARDS.search(path) or os.path.exists(path):
        return [path]
    found = sorted(glob.glob(path))
    if not found:
        raise FileNotFoundError(f"no shard matches {path!r}")
    return found


def _sizes_in(folder: str) -> dict[str, int]:
    path = os.path.join(folder, "sizes.json")
    try:
        with open(path, encoding="utf-8") as file:
            sizes = json.load(file)
        return {name: int(size) for name, size in sizes.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} must map names of shards to numbers: {error}") from None
