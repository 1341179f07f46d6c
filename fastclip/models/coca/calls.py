"""Calling a model that may write captions, when only a part of its results is needed."""

from torch import nn


def captions_as(what: str, model: nn.Module) -> dict[str, str]:
    """Return the argument `captions` for a call; none for a model that writes no captions.

    Args:
        what: see `CoCa.forward`.

    Example:
        >>> model(images, tokens, **captions_as("none", model))
    """
    return {"captions": what} if getattr(model, "writes_captions", False) else {}
