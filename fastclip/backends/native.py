"""Loads the native module once, and says why not where it is missing."""

import functools
import importlib

import torch

from fastclip.installation import advice_on_hidden_package

# Of its operators, the one that was added last.
NEWEST = "siglip_loss"


@functools.cache
def load() -> str | None:
    """Load the native module, at the first call; return why it cannot be used, or None."""
    try:
        importlib.import_module("fastclip._C")
    except ModuleNotFoundError:
        how = advice_on_hidden_package() or (
            "install with a C++ compiler and `pip install --no-build-isolation`"
        )
        return f"the native module is not built; {how}"
    except ImportError as error:
        return f"the native module does not load: {error}"
    if not hasattr(torch.ops.fastclip_native, NEWEST):
        return "the native module is older than this package: build it again"
    return None


def build_info() -> dict:
    """Compiler, flags, torch version and CPU capability of the native module.

    Raises:
        RuntimeError: there is none; the message says why.
    """
    why = load()
    if why is not None:
        raise RuntimeError(why)
    return importlib.import_module("fastclip._C").build_info()
