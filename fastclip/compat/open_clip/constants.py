"""The names of `open_clip.constants`."""

from fastclip.data.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    INCEPTION_MEAN,
    INCEPTION_STD,
    OPENAI_DATASET_MEAN,
    OPENAI_DATASET_STD,
)
from fastclip.models.checkpoints.stored_model import OPEN_CLIP_CONFIG as HF_CONFIG_NAME
from fastclip.models.hub_upload import PICKLE as HF_WEIGHTS_NAME
from fastclip.models.hub_upload import SAFETENSORS as HF_SAFE_WEIGHTS_NAME
