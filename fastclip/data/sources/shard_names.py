"""Finds the shards that a specification means, and how many samples their folder says they hold.

data/{000..012}.tar          numbers, with their leading zeros; {0..9..3} in steps; {a..f} letters
{a,b{0..3},c{x,y}}.tar       lists, with braces in them, as bash has them
data/*.tar                   the shell's wildcards, sorted
one/*.tar::two/{0..9}.tar    both

If a file, or a folder of shards, exists under the specification as it stands, it means that one.
"""

import contextlib
import glob
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from fastclip.data.json_file import read_json_object
from fastclip.data.quoting import cut, quoted_text
from fastclip.data.regular_file import read_regular
from fastclip.data.sources.braces import expand_all

LONGEST_PATTERN = 4096  # characters, as paths have; a wildcard's time grows with the square
WILDCARDS = re.compile(r"[*?\[]")
OTHER = re.compile(r"pipe:|[a-z][a-z0-9+]*://")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
SIZES = "sizes.json"  # maps names of shards to numbers of samples
NUM_SHOWN = 4  # paths in a message
MAX_LENGTH_BYTES = 2**10  # of `__len__`, a number


def shard_paths(spec: str) -> list[str]:
    """Return the paths in the order of the specification; some of the files may be missing.

    Raises:
        FileNotFoundError: no shard exists.
        ValueError: `spec` is empty or names files that are not local or are compressed, its braces
            cannot be expanded, it names a shard twice, or all shards are empty.
    """
    if "\0" in spec:
        raise ValueError(f"shards must have names without a zero byte, got {quoted_text(spec)}")
    if os.path.isdir(spec):
        paths = sorted(entry.path for entry in os.scandir(spec) if is_shard_name(entry.name))
    elif os.path.exists(spec):
        paths = [spec]
    else:
        paths = [path for expanded in expand_all(spec.split("::")) for path in _matching(expanded)]
    for path in paths:
        if OTHER.match(path):
            raise ValueError(f"shards must be local files, got {quoted_text(path)}")
        if path.endswith(COMPRESSED):
            raise ValueError(
                "shards must not be compressed, because fastclip seeks in them, got "
                f"{quoted_text(path)}"
            )
    repeated = len(paths) - len(set(paths))
    if repeated:
        raise ValueError(f"shards must not repeat, but {repeated} of {quoted_text(spec)} do")
    there = _existing(paths)
    if (first := next(there, None)) is None:
        raise FileNotFoundError(f"no shard of {quoted_text(spec)} exists{_meaning(spec, paths)}")
    if all(map(_is_empty, itertools.chain([first], there))):
        raise ValueError(f"shards must not all be empty{_meaning(spec, paths)} of 0 bytes")
    return paths


def _existing(paths: Iterable[str]) -> Iterator[str]:
    """Yield the paths that exist, looking only as far as the caller iterates.

    A folder with a missing path is listed once: asking for each of a million names takes too long.
    """
    listings: dict[str, frozenset[str]] = {}
    for path in paths:
        name = path.rpartition("/")[2]
        folder = path[: len(path) - len(name)]
        if folder in listings and name not in listings[folder]:
            continue
        if os.path.exists(path):
            yield path
        elif folder not in listings:
            listings[folder] = _names_in(folder or os.curdir)


def _names_in(folder: str) -> frozenset[str]:
    with contextlib.suppress(OSError):
        return frozenset(os.listdir(folder))
    return frozenset()


def is_shard_name(name: str) -> bool:
    """Return whether a file with this name counts as a shard, and not as a system's hidden file."""
    return name.lower().endswith(".tar") and not name.startswith(".")


def shard_sizes(paths: list[str]) -> list[int | None]:
    """Return the number of samples of each shard by the `sizes.json` next to it, or None."""
    tables = {folder: _sizes_in(folder) for folder in {os.path.dirname(path) for path in paths}}
    return [tables[os.path.dirname(path)].get(os.path.basename(path)) for path in paths]


def stated_length(paths: list[str]) -> int | None:
    """Return the sum of the numbers in `__len__` files next to shards; None if one is missing."""
    lengths = []
    for folder in sorted({os.path.dirname(path) for path in paths}):
        try:
            text = read_regular(os.path.join(folder, "__len__"), MAX_LENGTH_BYTES)
            lengths.append(int(text.decode()))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueError(f"{folder}/__len__ must hold a number: {cut(str(error))}") from None
    return sum(lengths)


def _is_empty(path: str) -> bool:
    return os.path.isfile(path) and os.path.getsize(path) == 0


def _meaning(spec: str, paths: list[str]) -> str:
    """Return a text that says which paths a specification means."""
    shown = ", ".join(cut(os.path.basename(path)) for path in paths[:NUM_SHOWN])
    more = ", ..." if len(paths) > NUM_SHOWN else ""
    if not paths:
        return ""
    if "{" not in spec:
        return f": {shown}{more}"
    nested = "nested " if re.search(r"\{[^}]*\{", spec) else ""
    return f": the {nested}braces of {quoted_text(spec)} mean {shown}{more}"


def _matching(path: str) -> list[str]:
    if not WILDCARDS.search(path) or os.path.exists(path):
        return [path]
    if len(path) > LONGEST_PATTERN:
        raise ValueError(
            f"a pattern of shards must have at most {LONGEST_PATTERN:,} characters, got "
            f"{len(path):,}: {quoted_text(path)}"
        )
    found = sorted(glob.glob(path))
    if not found:
        raise FileNotFoundError(f"no shard matches {quoted_text(path)}")
    return found


def _sizes_in(folder: str) -> dict[str, int]:
    path = Path(folder, SIZES)
    try:
        sizes = read_json_object(path)
        numbers = {name: int(size) for name, size in sizes.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} must map names of shards to numbers: {cut(str(error))}") from None
    if min(numbers.values(), default=0) < 0:
        raise ValueError(f"{path} must not map names of shards to negative numbers")
    return numbers
