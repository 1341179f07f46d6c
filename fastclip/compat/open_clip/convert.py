"""The names of `open_clip.convert`."""

from fastclip.compat.absent import absent

globals().update(
    absent(
        {
            "big_vision's weights are read in open_clip's layout, from the Hub": (
                "load_big_vision_weights",
            ),
            "timm builds MobileCLIP's towers": ("convert_mobile_clip_state_dict",),
            "load_checkpoint and create_model read files of every layout that is supported": (
                "convert_state_dict",
            ),
        }
    )
)
