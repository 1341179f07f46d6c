"""The settings of CLIP's loss; which loss it is, the model's settings say."""

from dataclasses import dataclass

from fastclip.ops.clip_options import DIRECTIONS, options_of_numbers
from fastclip.train.settings.setting import Settings, setting


@dataclass(frozen=True)
class LossConfig(Settings):
    """What the loss of a training step is beyond the plain one; validation's stays plain."""

    label_smoothing: float = setting(
        0.0,
        "The share of a label that is spread over all texts of an image, and over all images of a "
        "text, as in torch's cross_entropy. It is at least 0 and below 1. The loss of validation "
        "stays the plain one.",
    )
    margin: float = setting(
        0.0,
        "The number that is taken off the cosine of each matching pair before the loss. The loss "
        "of validation stays the plain one.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        options_of_numbers(self.label_smoothing, self.margin, DIRECTIONS)
