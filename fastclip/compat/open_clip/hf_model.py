"""The names of `open_clip.hf_model`."""

from fastclip.compat.absent import absent

globals().update(
    absent(
        {
            "create_model builds such text towers, and TwoTower takes a Hugging Face model": (
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
