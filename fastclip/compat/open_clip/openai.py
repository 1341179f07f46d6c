"""The names of `open_clip.openai`."""

from fastclip.compat.open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from fastclip.models.openai import list_openai_models, load_openai_model
