"""The names of `open_clip.timm_model`."""

from fastclip.compat.absent import absent

globals().update(
    absent(
        {
            "TwoTower(image_encoder, text_encoder) takes a model of timm as it is": ("TimmModel",),
        }
    )
)
