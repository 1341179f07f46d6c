"""The names of `open_clip.zero_shot_classifier`."""

from fastclip.compat.absent import absent
from fastclip.evaluate.zero_shot_classifier import (
    build_zero_shot_classifier,
    build_zero_shot_classifier_legacy,
)

globals().update(
    absent(
        {
            "Python has itertools.batched from version 3.12 on": ("batched",),
        }
    )
)
