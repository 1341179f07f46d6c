"""The statistics of a batch that the CLIP loss returns."""

from typing import NamedTuple

from torch import Tensor


class ClipStats(NamedTuple):
    """Statistics of a batch that the CLIP loss has anyway; 0-d tensors, detached.

    An image counts as right if its own text is strictly nearer than all other texts: ties are
    wrong, so that collapsed features do not look perfect. Extra texts are negatives of images here
    too; margin, label smoothing and weights do not change these statistics. Images and texts with
    the same id are not negatives of each other.

    Attributes:
        image_to_text_accuracy: the fraction of images whose own text is the nearest.
        text_to_image_accuracy: the fraction of texts whose own image is the nearest.
        mean_positive: the mean logit of the pairs.
        hardest_negative: the largest logit of a negative; -inf if there is none.
        same_pairs: the number of (image, text) that have one id but are not a pair, int64; 0
            without ids.

    Example:
        >>> _, stats = fastclip.clip_loss(torch.eye(4), torch.eye(4), 10.0, return_stats=True)
        >>> float(stats.text_to_image_accuracy), float(stats.hardest_negative)
        (1.0, 0.0)
    """

    image_to_text_accuracy: Tensor
    text_to_image_accuracy: Tensor
    mean_positive: Tensor
    hardest_negative: Tensor
    same_pairs: Tensor
