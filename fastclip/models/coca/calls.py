"""How a model is called that may write captions, where a caller wants a part."""

from torch import nn


def captions_as(what: str, model: nn.Module) -> dict[str, str]:
    """The argument of a call that says what of captions is wanted; none where none are written.

    Args:
        what: see `CoCa.forward`.

    Example:
        >>> model(images, tokens, **captions_as("none", model))
    """
    return {"captions": what} if getattr(model, "writes_captions", False) else {}
