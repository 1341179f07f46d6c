"""The names of `open_clip.timm_model`."""

from fastclip.compat.absent import absent

globals().update(
    absent(
        {
            "a model of timm's goes into TwoTower as it is": ("TimmModel",),
        }
    )
)
