"""The names of `open_clip.hf_model`."""

from fastclip.compat.absent import absent

globals().update(
    absent(
        {
            "a Hugging Face text model goes into TwoTower as it is": (
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
