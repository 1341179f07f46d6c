"""LAION's ConvNeXt models, under open_clip's names.

Source: sizes as in the model configurations of open_clip_torch 3.3.0.
"""

from fastclip.models.clip_config import ClipConfig
from fastclip.models.parts.projection_head import LINEAR, MLP
from fastclip.models.towers.convnext.config import CONVNEXTS, ConvNextConfig
from fastclip.models.towers.text.presets import openai_text

# name: embed_dim, timm's name, image size, projection; width and layers of the text tower
MODELS = {
    "convnext_tiny": (1024, "convnext_tiny", 224, LINEAR, 512, 12),
    "convnext_small": (512, "convnext_small", 224, LINEAR, 512, 12),
    "convnext_base": (512, "convnext_base", 224, LINEAR, 512, 12),
    "convnext_base_w": (640, "convnext_base", 256, LINEAR, 640, 12),
    "convnext_base_w_320": (640, "convnext_base", 320, LINEAR, 640, 12),
    "convnext_large": (768, "convnext_large", 224, LINEAR, 768, 12),
    "convnext_large_d": (768, "convnext_large", 256, MLP, 768, 16),
    "convnext_large_d_320": (768, "convnext_large", 320, MLP, 768, 16),
    "convnext_xlarge": (1024, "convnext_xlarge", 256, LINEAR, 1024, 20),
    "convnext_xxlarge": (1024, "convnext_xxlarge", 256, LINEAR, 1024, 24),
    "convnext_xxlarge_320": (1024, "convnext_xxlarge", 320, LINEAR, 1024, 24),
}


def presets() -> dict[str, ClipConfig]:
    """Return the ConvNeXt models by name."""
    return {name: _convnext(*row) for name, row in MODELS.items()}


def _convnext(
    embed_dim: int, timm_name: str, image_size: int, proj: str, text_width: int, text_layers: int
) -> ClipConfig:
    vision = ConvNextConfig(image_size, **CONVNEXTS[timm_name], proj=proj, drop_path=0.1)
    return ClipConfig(embed_dim, vision, openai_text(text_width, text_layers))
