"""Which side is the rows, whose gradients are complete where they are computed."""

from fastclip.ops.differentiation import needs_grad
from fastclip.rectangle import Rectangle


def texts_are_rows(own: Rectangle) -> bool:
    """Images are, unless they are frozen and texts are not: frozen features travel without a
    gradient that must come home. The losses are symmetric."""
    image_features, text_features = own[:2]
    return needs_grad(text_features) and not needs_grad(image_features)
