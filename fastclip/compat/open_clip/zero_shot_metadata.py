"""The names of `open_clip.zero_shot_metadata`."""

from fastclip.evaluate.imagenet import (
    IMAGENET_CLASSNAMES,
    OPENAI_IMAGENET_TEMPLATES,
    SIMPLE_IMAGENET_TEMPLATES,
)
