"""Find out whether this process runs the installed package or a source tree that hides it.

Python looks into the working directory first. In a checkout, `import fastclip` therefore finds the
source tree, which has neither compiled kernels nor `fastclip.benchmarks`.
"""

from importlib import metadata
from pathlib import Path

DISTRIBUTION = "fastclip-kernels"
PACKAGE = Path(__file__).parent


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
