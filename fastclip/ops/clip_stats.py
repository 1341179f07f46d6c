"""What a batch looks like to the CLIP loss."""

from typing import NamedTuple

from torch import Tensor


class ClipStats(NamedTuple):
    """What a batch looks like, from statistics that the loss has anyway; 0-d tensors, detached.

    An image counts as right if its own text is strictly the nearest of the batch: ties are wrong,
    so that collapsed features do not look perfect. Extra texts are negatives of images here too;
    margin, label smoothing and weights change no logit, and nothing here. What has the id of an
    image is no negative of it, nor of a text.

    Example:
        >>> _, stats = fastclip.clip_loss(torch.eye(4), torch.eye(4), 10.0, return_stats=True)
        >>> float(stats.text_to_image_accuracy), float(stats.hardest_negative)
        (1.0, 0.0)
    """

    image_to_text_accuracy: Tensor
    text_to_image_accuracy: Tensor
    mean_positive: Tensor  # mean logit of the matching pairs
    hardest_negative: Tensor  # largest logit of a non-matching pair; -inf if there is none
    same_pairs: Tensor  # how many (image, text) have one id and are no pair, int64; 0 without ids
