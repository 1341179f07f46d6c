"""The models with CLIP's modified ResNet that open_clip has names for.

Source: Radford et al. 2021, arXiv:2103.00020, table 19.
"""

from fastclip.models.clip_config import ClipConfig
from fastclip.models.towers.modified_resnet.config import ResNetConfig
from fastclip.models.towers.text.presets import openai_text

# name: layers, width, image size, embed_dim, text width
RESNETS = {
    "RN50": ((3, 4, 6, 3), 64, 224, 1024, 512),
    "RN101": ((3, 4, 23, 3), 64, 224, 512, 512),
    "RN50x4": ((4, 6, 10, 6), 80, 288, 640, 640),
    "RN50x16": ((6, 8, 18, 8), 96, 384, 768, 768),
    "RN50x64": ((3, 15, 36, 10), 128, 448, 1024, 1024),
}


def presets() -> dict[str, ClipConfig]:
    """Return the models by name, each with GELU and with OpenAI's activation in the text tower."""
    models = {name: _resnet(*row) for name, row in RESNETS.items()}
    return models | {f"{name}-quickgelu": model.with_quick_gelu() for name, model in models.items()}


def _resnet(
    layers: tuple[int, int, int, int], width: int, image_size: int, embed_dim: int, text_width: int
) -> ClipConfig:
    vision = ResNetConfig(image_size, layers, width)
    return ClipConfig(embed_dim, vision, openai_text(text_width, layers=12))
