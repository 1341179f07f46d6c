"""Merge wheels that were built with different versions of torch into one wheel.

The native module works with one minor version of torch, which its name contains (see setup.py).
Wheels that were built for one Python with several versions of torch are otherwise alike: the first
wheel is copied, and the native modules of the others are added to it.

    python .github/merge_wheels.py OUT_DIRECTORY WHEEL [WHEEL ...]

It needs the package `wheel`, which rewrites the list of files.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from pathlib import Path

NATIVE = "fastclip/_C_torch"
# This library works with every torch, so any wheel's copy is right, even if the bytes differ.
CUDA = "fastclip/_cuda.so"


def merged(wheels: list[Path], out: Path) -> list[Path]:
    """Write one wheel per file name of `wheels` into `out`, and return them.

    Raises:
        ValueError: a wheel has no native module, or two have one for the same torch, or they
            differ in anything else; or one name has more wheels than another.
    """
    by_name = defaultdict(list)
    for wheel in wheels:
        by_name[wheel.name].append(wheel)
    if len({len(same) for same in by_name.values()}) > 1:
        counted = ", ".join(f"{len(same)} of {name}" for name, same in sorted(by_name.items()))
        raise ValueError(f"every name must have a wheel for each torch, got {counted}")
    out.mkdir(parents=True, exist_ok=True)
    return [_merge(same, out / name) for name, same in sorted(by_name.items())]


def _merge(wheels: list[Path], target: Path) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "wheel"
        first, *others = wheels
        modules, rest = _contents(first)
        with zipfile.ZipFile(first) as archive:
            archive.extractall(tree)
        for other in others:
            further, its_rest = _contents(other)
            if its_rest != rest:
                names = sorted(name for name, _ in rest ^ its_rest)
                raise ValueError(f"{first} and {other} differ in {', '.join(names)}")
            if twice := modules & further:
                raise ValueError(f"{first} and {other} both have {', '.join(sorted(twice))}")
            modules |= further
            with zipfile.ZipFile(other) as archive:
                archive.extractall(tree, further)
        command = [sys.executable, "-m", "wheel", "pack", str(tree), "--dest-dir", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (packed,) = Path(folder).glob("*.whl")
        shutil.move(packed, target.with_name(packed.name))
        return target.with_name(packed.name)


def _contents(wheel: Path) -> tuple[set[str], set[tuple[str, int]]]:
    """Names of native modules; names and checksums of what must be the same elsewhere."""
    with zipfile.ZipFile(wheel) as archive:
        entries = {
            (entry.filename, 0 if entry.filename == CUDA else entry.CRC)
            for entry in archive.infolist()
        }
    modules = {name for name, _ in entries if name.startswith(NATIVE)}
    if not modules:
        raise ValueError(f"{wheel} has no native module {NATIVE}*")
    rest = {
        (name, crc)
        for name, crc in entries
        if name not in modules and not name.endswith(".dist-info/RECORD")
    }
    return modules, rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="directory for the merged wheels")
    parser.add_argument("wheels", type=Path, nargs="+", help="wheels of one version of fastclip")
    arguments = parser.parse_args()
    for wheel in merged(arguments.wheels, arguments.out):
        print(wheel)


if __name__ == "__main__":
    main()
