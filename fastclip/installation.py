"""Find out which fastclip this process runs, and what installs an optional package.

Python looks into the working directory first. In a checkout, `import fastclip` therefore finds the
source tree, which has neither compiled kernels nor `fastclip.benchmarks`.
"""

import re
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "fastclip-kernels"
PACKAGE = Path(__file__).parent


def install_command(extra: str, *only: str) -> str:
    """Return the command that installs the packages of an extra.

    The command names the packages and not the extra. It therefore works for every installation, be
    it from an index, a wheel or a checkout, and leaves fastclip itself and its compiled kernels as
    they are.

    Args:
        extra: its name in the metadata of fastclip, such as "search".
        only: names of packages of the extra; the command then leaves out the others.

    Example:
        >>> install_command("search")
        'pip install "faiss-cpu>=1.10"'
    """
    packages = [name for name in _packages_of(extra) if not only or _name_of(name) in only]
    if not packages:  # a source tree without metadata, or metadata older than the tree
        packages = list(only) or [f"{DISTRIBUTION}[{extra}]"]
    return " ".join(["pip install", *(f'"{package}"' for package in packages)])


def _packages_of(extra: str) -> list[str]:
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    of_extra = re.compile(rf"""\bextra == ["']{re.escape(extra)}["']""")
    split = [requirement.partition(";") for requirement in requirements]
    return [package.strip() for package, _, marker in split if of_extra.search(marker)]


def _name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def hidden_package() -> Path | None:
    """Return the installed package that the running one hides, or None."""
    for distribution in metadata.distributions(name=DISTRIBUTION):
        installed = Path(str(distribution.locate_file("fastclip")))
        if (installed / "__init__.py").is_file() and not installed.samefile(PACKAGE):
            return installed
    return None


def advice_on_hidden_package() -> str | None:
    """Return a sentence that says what to do about a hidden package, or None if none is hidden."""
    hidden = hidden_package()
    if hidden is None:
        return None
    return (
        f"this is the source tree {PACKAGE}, which hides the package installed in {hidden}: run "
        "from another directory"
    )
