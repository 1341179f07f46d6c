"""Load the native module once, or say why it cannot be loaded.

A module serves one minor version of torch, which is in its name; modules for several versions may
be installed next to each other.
"""

import functools
import importlib
import sys
import warnings

import torch

from fastclip.installation import DISTRIBUTION, PACKAGE, advice_on_hidden_package

PREFIX = "_C_torch"
MODULE = f"fastclip.{PREFIX}" + "_".join(torch.__version__.split(".")[:2])

# The newest operator of the module: an older module does not have it.
NEWEST = "siglip_loss"


@functools.cache
def load() -> str | None:
    """Load the native module at the first call; return why it cannot be used, or None."""
    try:
        importlib.import_module(MODULE)
    except ModuleNotFoundError:
        return f"the native module is not built{_for_others()}; {how_to_build()}"
    except ImportError as error:
        return f"the native module does not load: {error}"
    if not hasattr(torch.ops.fastclip_native, NEWEST):
        return "the native module is older than this package: build it again"
    return None


def build_info() -> dict:
    """Return compiler, flags, torch version and CPU capability of the native module.

    Raises:
        RuntimeError: the module cannot be loaded; the message says why.
    """
    why = load()
    if why is not None:
        raise RuntimeError(why)
    return importlib.import_module(MODULE).build_info()


def how_to_build() -> str:
    """Say, as the end of a sentence, what to do if there is no native module for this torch."""
    return advice_on_hidden_package() or (
        "in a checkout and with a C++20 compiler, run `pip install setuptools wheel ninja` and "
        "`pip install --no-build-isolation --no-deps --force-reinstall .`; of a package from an "
        f"index, `--no-cache-dir --no-binary {DISTRIBUTION} {DISTRIBUTION}` in the place of the dot"
    )


@functools.cache
def warn_once() -> None:
    """Warn, once per process, that losses on a CPU are computed without the native module."""
    if (why := load()) is not None:
        warnings.warn(
            "fastclip computes losses on this CPU with PyTorch (backend 'chunked'), which takes "
            f"1.3 to 3.5 times as long as the C++ kernels: {why}. To silence this warning, name "
            "backend='chunked'.",
            stacklevel=2,
        )


def _for_others() -> str:
    """Name the modules for other versions of torch or Python; return "" if there are none."""
    found = sorted(path.name for path in PACKAGE.glob(f"{PREFIX}*"))
    if not found:
        return ""
    python = ".".join(map(str, sys.version_info[:2]))
    return f" for torch {torch.__version__} and Python {python} (there are {', '.join(found)})"
