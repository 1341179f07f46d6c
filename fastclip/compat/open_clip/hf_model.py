"""The names of `open_clip.hf_model`."""

from fastclip.compat.absent import absent

globals().update(
    absent(
        {
            "TwoTower(image_encoder, text_encoder) takes a Hugging Face model as it is": (
                "HFTextEncoder",
                "ClsLastHiddenStatePooler",
                "ClsPooler",
                "MaxPooler",
                "MeanPooler",
                "register_pooler",
            ),
        }
    )
)
