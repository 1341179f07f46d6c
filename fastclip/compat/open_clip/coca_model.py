"""The names of `open_clip.coca_model`."""

from fastclip.compat.absent import absent
from fastclip.models.coca.model import CoCa

globals().update(
    absent(
        {
            "get_model_config returns configurations, and add_model_config reads them from JSON": (
                "MultimodalCfg",
            ),
        }
    )
)
