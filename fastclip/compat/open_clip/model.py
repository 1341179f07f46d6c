"""The names of `open_clip.model`."""

from fastclip.compat.absent import absent
from fastclip.models.clip import CLIP
from fastclip.models.model_settings import (
    get_model_preprocess_cfg,
    get_model_tokenize_cfg,
    set_model_preprocess_cfg,
)
from fastclip.models.openai import build_model_from_openai_state_dict
from fastclip.models.precision import (
    convert_weights_to_fp16,
    convert_weights_to_lp,
    get_cast_dtype,
    get_input_dtype,
)
from fastclip.models.tracing import trace_model
from fastclip.models.two_tower import CustomTextCLIP

globals().update(
    absent(
        {
            "get_model_config returns configurations, and add_model_config reads them from JSON": (
                "CLIPTextCfg",
                "CLIPVisionCfg",
            ),
            "load_checkpoint(..., resize=True) and force_image_size= resize position embeddings": (
                "resize_pos_embed",
                "resize_text_pos_embed",
            ),
            "load_checkpoint takes text keys with and without their prefix": (
                "convert_to_custom_text_state_dict",
            ),
        }
    )
)
