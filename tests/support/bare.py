"""A Python environment with fastclip and the packages that it declares, and nothing else."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import fastclip

ROOT = Path(fastclip.__file__).parent.parent


def declared_distributions(name: str = "fastclip-kernels") -> set[str]:
    """Names of all distributions that installing one without extras brings, without itself."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for line in metadata.requires(waiting.pop()) or ():
            requirement = Requirement(line)
            is_wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if is_wanted and requirement.name not in found:
                found.add(requirement.name)
                waiting.append(requirement.name)
    return found


def make_bare(directory: Path) -> Path:
    """Fill a directory with links to these packages: it is all that such a Python imports from."""
    directory.mkdir()
    for name in declared_distributions():
        distribution = metadata.distribution(name)
        for file in distribution.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (directory / top).exists():
                (directory / top).symlink_to(Path(distribution.locate_file(top)))
    package = directory / "fastclip"
    package.mkdir()
    for path in (ROOT / "fastclip").iterdir():
        (package / path.name).symlink_to(path)
    (package / "benchmarks").symlink_to(ROOT / "benchmarks")
    return directory


def run_bare(
    bare: Path, *arguments: str, home: Path, cwd: Path, seconds: float = 300, **environment: str
) -> subprocess.CompletedProcess:
    """Run Python in it, with a home directory of its own and no setting of the user's."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    settings = {"PYTHONPATH": str(bare), "HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-S", *arguments], cwd=cwd, env=kept | settings | environment,
        capture_output=True, text=True, timeout=seconds,
    )  # fmt: skip
