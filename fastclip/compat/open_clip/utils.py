"""The names of `open_clip.utils`."""

from fastclip.compat.absent import absent
from fastclip.models.parts.layers import feature_take_indices

globals().update(
    absent(
        {
            "model.lock_image_tower(freeze_bn_stats=True) stops running statistics": (
                "freeze_batch_norm_2d",
            ),
            "timm.layers has this function": (
                "to_1tuple",
                "to_2tuple",
                "to_3tuple",
                "to_4tuple",
                "to_ntuple",
            ),
            "layers of bitsandbytes are not supported": (
                "replace_linear",
                "convert_int8_model_to_inference_mode",
            ),
        }
    )
)
