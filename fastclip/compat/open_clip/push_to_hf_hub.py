"""The names of `open_clip.push_to_hf_hub`."""

from fastclip.compat.open_clip.constants import (
    HF_CONFIG_NAME,
    HF_SAFE_WEIGHTS_NAME,
    HF_WEIGHTS_NAME,
)
from fastclip.models.hub_upload import push_pretrained_to_hf_hub, push_to_hf_hub
