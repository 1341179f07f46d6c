"""The statistics of a batch that the CLIP loss returns."""

from typing import NamedTuple

from torch import Tensor


class ClipStats(NamedTuple):
    """Statistics of a batch that the CLIP loss has anyway; 0-d tensors, detached.

    An image counts as right if its own text is strictly nearer than all other texts: ties are
    wrong, so that collapsed features do not look perfect. Extra texts are negatives of images here
    too; margin, label smoothing and weights do not change these statistics. Images and texts with
    the same id are not negatives of each other.

    Example:
        >>> _, stats = fastclip.clip_loss(torch.eye(4), torch.eye(4), 10.0, return_stats=True)
        >>> float(stats.text_to_image_accuracy), float(stats.hardest_negative)
        (1.0, 0.0)
    """

    image_to_text_accuracy: Tensor
    text_to_image_accuracy: Tensor
    mean_positive: Tensor  # mean logit of the matching pairs
    hardest_negative: Tensor  # largest logit of a non-matching pair; -inf if there is none
    same_pairs: Tensor  # number of (image, text) with one id that are no pair, int64; 0 without ids
