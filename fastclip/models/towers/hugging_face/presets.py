"""The models whose text tower is an encoder of transformers, by open_clip's names.

Source: the model configurations of open_clip_torch 3.3.0; Visheratin 2023, arXiv:2309.01859 (NLLB).
"""

from fastclip.models.clip_config import SIGLIP_LOGIT_BIAS, ClipConfig
from fastclip.models.towers.hugging_face.config import HfTextConfig
from fastclip.models.towers.image_config import ImageTowerConfig
from fastclip.models.towers.siglip.config import SiglipVisionConfig
from fastclip.models.towers.vision_transformer.config import VisionConfig

BASE = VisionConfig(224, patch_size=32, width=768, layers=12)
HUGE = VisionConfig(224, patch_size=14, width=1280, layers=32, head_width=80)
NLLB_BASE, NLLB_LARGE = "facebook/nllb-200-distilled-600M", "facebook/nllb-200-distilled-1.3B"


def presets() -> dict[str, ClipConfig]:
    """Return the models by name."""
    roberta = _model(512, BASE, "roberta-base").with_quick_gelu()
    return {
        "roberta-ViT-B-32": roberta,
        "xlm-roberta-base-ViT-B-32": _model(512, BASE, "xlm-roberta-base"),
        "xlm-roberta-large-ViT-H-14": _model(1024, HUGE, "xlm-roberta-large"),
        "mt5-base-ViT-B-32": _model(512, BASE, "google/mt5-base"),
        "mt5-xl-ViT-H-14": _model(1024, HUGE, "google/mt5-xl"),
        "nllb-clip-base": _nllb(512, BASE, NLLB_BASE),
        "nllb-clip-large": _nllb(1024, HUGE, NLLB_LARGE),
        "nllb-clip-base-siglip": _nllb_siglip("vit_base_patch16_siglip_384", NLLB_BASE),
        "nllb-clip-large-siglip": _nllb_siglip("vit_so400m_patch14_siglip_384", NLLB_LARGE),
    }


def _model(embed_dim: int, vision: ImageTowerConfig, encoder: str) -> ClipConfig:
    text = HfTextConfig(encoder, hf_tokenizer_name=encoder)
    return ClipConfig(embed_dim, vision, text, custom_text=True)


def _nllb(
    embed_dim: int, vision: ImageTowerConfig, encoder: str, bias: float | None = None
) -> ClipConfig:
    text = HfTextConfig(
        encoder, hf_tokenizer_name=encoder, hf_pooler_type="cls_pooler", hf_proj_type="linear"
    )
    return ClipConfig(embed_dim, vision, text, custom_text=True, init_logit_bias=bias)


def _nllb_siglip(vision_name: str, encoder: str) -> ClipConfig:
    vision = SiglipVisionConfig.of_timm(vision_name)
    return _nllb(vision.width, vision, encoder, SIGLIP_LOGIT_BIAS)
