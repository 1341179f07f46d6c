"""Which side is the rows, whose gradients are complete where they are computed."""

from torch import Tensor

from fastclip.ops.kept_rows import needs_grad


def texts_are_rows(image_features: Tensor, text_features: Tensor) -> bool:
    """Images are, unless they are frozen and texts are not: frozen features travel without a
    gradient that must come home. The losses are symmetric."""
    return needs_grad(text_features) and not needs_grad(image_features)
