"""Choose the side that is the rows: the rows' gradients are complete where they are computed."""

from fastclip.ops.differentiation import needs_grad
from fastclip.rectangle import Rectangle


def texts_are_rows(own: Rectangle) -> bool:
    """Return whether texts are the rows, instead of images.

    This is so if only the images are frozen: no gradient must be sent back for frozen columns. The
    losses are symmetric.
    """
    image_features, text_features = own[:2]
    return needs_grad(text_features) and not needs_grad(image_features)
