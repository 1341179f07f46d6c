"""Which fastclip this process runs: the installed package, or a source tree that lies in its way.

Python looks into the working directory first, so that in a checkout `import fastclip` finds the
source tree, which has neither compiled kernels nor `fastclip.benchmarks`.
"""

from importlib import metadata
from pathlib import Path

DISTRIBUTION = "fastclip-kernels"
PACKAGE = Path(__file__).parent


def hidden_package() -> Path | None:
    """The installed package that this one hides, or None."""
    for distribution in metadata.distributions(name=DISTRIBUTION):
        installed = Path(str(distribution.locate_file("fastclip")))
        if (installed / "__init__.py").is_file() and not installed.samefile(PACKAGE):
            return installed
    return None


def advice_on_hidden_package() -> str | None:
    """What to do about a package that is hidden, in a sentence; None if none is."""
    hidden = hidden_package()
    if hidden is None:
        return None
    return (
        f"this is the source tree {PACKAGE}, which hides the package installed in {hidden}: run "
        "from another directory"
    )
