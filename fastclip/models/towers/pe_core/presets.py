"""Meta's PE-Core models, by open_clip's names.

Source: sizes as in the model configurations of open_clip_torch 3.3.0; Bolya et al. 2025,
arXiv:2504.13181.
"""

from fastclip.models.clip_config import ClipConfig
from fastclip.models.towers.pe_core.config import PE_CORES, PECoreConfig
from fastclip.models.towers.text.presets import openai_text

# name: embed_dim, timm's name; width, layers and context length of the text tower
MODELS = {
    "PE-Core-T-16-384": (512, "vit_pe_core_tiny_patch16_384", 512, 12, 32),
    "PE-Core-S-16-384": (512, "vit_pe_core_small_patch16_384", 512, 12, 32),
    "PE-Core-B-16": (1024, "vit_pe_core_base_patch16_224", 1024, 24, 32),
    "PE-Core-L-14-336": (1024, "vit_pe_core_large_patch14_336", 1024, 24, 32),
    "PE-Core-bigG-14-448": (1280, "vit_pe_core_gigantic_patch14_448", 1280, 24, 72),
}


def presets() -> dict[str, ClipConfig]:
    """Return the PE-Core models by name."""
    return {name: _pe_core(*row) for name, row in MODELS.items()}


def _pe_core(
    embed_dim: int, timm_name: str, text_width: int, text_layers: int, context_length: int
) -> ClipConfig:
    text = openai_text(text_width, text_layers, context_length=context_length)
    return ClipConfig(embed_dim, PECoreConfig(**PE_CORES[timm_name]), text, custom_text=True)
