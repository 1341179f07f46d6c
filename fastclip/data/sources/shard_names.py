"""Which shards a specification means, and how many samples their folder says they hold.

data/{000..012}.tar          numbers, with their leading zeros; {0..9..3} in steps; {a..f} letters
{a,b{0..3},c{x,y}}.tar       lists, with braces in them, as bash has them
data/*.tar                   the shell's wildcards, sorted
one/*.tar::two/{0..9}.tar    both

What is there under the name as it stands is meant by it: a file, or a folder of shards.
"""

import glob
import json
import os
import re

NUMBERS = re.compile(r"(\d+)\.\.(\d+)(?:\.\.(\d+))?")
LETTERS = re.compile(r"([a-z])\.\.([a-z])|([A-Z])\.\.([A-Z])")
WILDCARDS = re.compile(r"[*?\[]")
OTHER = re.compile(r"pipe:|[a-z][a-z0-9+]*://")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
SIZES = "sizes.json"  # maps names of shards to numbers of samples
NUM_SHOWN = 4  # paths in a message


def shard_paths(spec: str) -> list[str]:
    """Return the paths, in the order of the specification; a path may be missing, unless all are.

    Raises:
        FileNotFoundError: no shard exists.
        ValueError: `spec` is empty or not of local, uncompressed files, its braces cannot be
            expanded, a shard is in it twice, or no shard has a byte.
    """
    if os.path.isdir(spec):
        paths = sorted(entry.path for entry in os.scandir(spec) if is_shard_name(entry.name))
    elif os.path.exists(spec):
        paths = [spec]
    else:
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
        raise FileNotFoundError(f"no shard of {spec!r} exists{_meaning(spec, paths)}")
    if all(not os.path.exists(path) or _is_empty(path) for path in paths):
        raise ValueError(f"shards must not all be empty{_meaning(spec, paths)} of 0 bytes")
    return paths


def is_shard_name(name: str) -> bool:
    """Does a file of this name in a folder count as a shard, and not as what a system left?"""
    return name.lower().endswith(".tar") and not name.startswith(".")


def expand_braces(pattern: str) -> list[str]:
    """Expand all `{000..012}` and `{a,b}`, nested ones too, the leftmost slowest.

    Raises:
        ValueError: `pattern` is empty, its braces do not match, or hold neither of the two.

    Example:
        >>> expand_braces("{a,b{0..1}}.tar")
        ['a.tar', 'b0.tar', 'b1.tar']
    """
    if not pattern:
        raise ValueError("shards must be named, got an empty name")
    return _expand(pattern, pattern)


def shard_sizes(paths: list[str]) -> list[int | None]:
    """Return what `sizes.json` next to each shard says of it: a number of samples, or None."""
    tables = {folder: _sizes_in(folder) for folder in {os.path.dirname(path) for path in paths}}
    return [tables[os.path.dirname(path)].get(os.path.basename(path)) for path in paths]


def stated_length(paths: list[str]) -> int | None:
    """Return the sum of the numbers in the files `__len__` next to shards, None without one."""
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


def _expand(text: str, pattern: str) -> list[str]:
    start = text.find("{")
    if start < 0 or "}" in text[:start]:
        if "}" in text:
            raise ValueError(f"shards must have matching braces, got {pattern!r}")
        return [text]
    parts, stop = _split_at_commas(text, start, pattern)
    inside = text[start + 1 : stop]
    if len(parts) > 1:
        choices = [choice for part in parts for choice in _expand(part, pattern)]
    else:
        choices = _range(inside, pattern)
    endings = _expand(text[stop + 1 :], pattern)
    return [text[:start] + choice + ending for choice in choices for ending in endings]


def _split_at_commas(text: str, start: int, pattern: str) -> tuple[list[str], int]:
    """What is between the commas of the braces at `start`, but not of inner ones; their end."""
    parts, depth, begin = [], 0, start + 1
    for i in range(start, len(text)):
        if text[i] == "{":
            depth += 1
        elif text[i] == "}":
            depth -= 1
        if depth == 0 or (depth == 1 and text[i] == ","):
            parts.append(text[begin:i])
            begin = i + 1
        if depth == 0:
            return parts, i
    raise ValueError(f"shards must have matching braces, got {pattern!r}")


def _range(inside: str, pattern: str) -> list[str]:
    if numbers := NUMBERS.fullmatch(inside):
        first, last, step = numbers.groups(default="1")
        if int(first) > int(last) or int(step) == 0:
            raise ValueError(f"shards must have ascending numbers, got {pattern!r}")
        is_padded = any(len(end) > 1 and end.startswith("0") for end in (first, last))
        width = max(len(first), len(last)) if is_padded else 0
        return [str(i).zfill(width) for i in range(int(first), int(last) + 1, int(step))]
    if letters := LETTERS.fullmatch(inside):
        first, last = (ord(letter) for letter in letters.groups() if letter)
        if first <= last:
            return [chr(i) for i in range(first, last + 1)]
    raise ValueError(f"shards must have {{0..9}} or {{a,b}} in their braces, got {pattern!r}")


def _is_empty(path: str) -> bool:
    return os.path.isfile(path) and os.path.getsize(path) == 0


def _meaning(spec: str, paths: list[str]) -> str:
    """Say what a specification with braces means."""
    shown = ", ".join(map(os.path.basename, paths[:NUM_SHOWN]))
    more = ", ..." if len(paths) > NUM_SHOWN else ""
    if not paths:
        return ""
    if "{" not in spec:
        return f": {shown}{more}"
    nested = "nested " if re.search(r"\{[^}]*\{", spec) else ""
    return f": the {nested}braces of {spec!r} mean {shown}{more}"


def _matching(path: str) -> list[str]:
    if not WILDCARDS.search(path) or os.path.exists(path):
        return [path]
    found = sorted(glob.glob(path))
    if not found:
        raise FileNotFoundError(f"no shard matches {path!r}")
    return found


def _sizes_in(folder: str) -> dict[str, int]:
    path = os.path.join(folder, SIZES)
    try:
        with open(path, encoding="utf-8") as file:
            sizes = json.load(file)
        return {name: int(size) for name, size in sizes.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} must map names of shards to numbers: {error}") from None
