"""The names of OpenAI's `clip` package."""

import sys

from fastclip.compat.clip import model, simple_tokenizer
from fastclip.compat.clip.clip import available_models, load, tokenize
from fastclip.compat.installation import install_as

__all__ = ["available_models", "load", "tokenize"]


def install() -> None:
    """Make `import clip` mean this package in this process.

    Raises:
        RuntimeError: another `clip` is already imported.

    Example:
        >>> import fastclip.compat.clip
        >>> fastclip.compat.clip.install()
        >>> import clip
        >>> model, preprocess = clip.load("ViT-B/32")
    """
    install_as("clip", sys.modules[__name__])
