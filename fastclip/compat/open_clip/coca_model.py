"""The names of `open_clip.coca_model`."""

from fastclip.compat.absent import absent

globals().update(
    absent(
        {
            "CoCa models, which write captions too, come later": (
                "CoCa",
                "MultimodalCfg",
            ),
        }
    )
)
