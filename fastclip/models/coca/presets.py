"""The CoCa models for which open_clip has names.

Source: sizes as in the model configurations of open_clip_torch 3.3.0.
"""

from fastclip.models.clip_config import ClipConfig
from fastclip.models.coca.config import MultimodalConfig
from fastclip.models.towers.hugging_face.config import HfTextConfig
from fastclip.models.towers.text.presets import openai_text
from fastclip.models.towers.vision_transformer.config import VisionConfig
from fastclip.models.towers.vision_transformer.presets import SIZES

CONTEXT_LENGTH = 76


def presets() -> dict[str, ClipConfig]:
    """Return the configurations by name."""
    base = VisionConfig(288, 18, output_tokens=True, **SIZES["B"])
    return {
        "coca_base": _coca(512, base, width=768, vocab_size=64000),
        "coca_ViT-B-32": _coca(512, _pooled(32, "B"), width=512),
        "coca_ViT-L-14": _coca(768, _pooled(14, "L"), width=768),
        "coca_roberta-ViT-B-32": _roberta(),
    }


def _pooled(patch_size: int, size: str) -> VisionConfig:
    return VisionConfig(
        224, patch_size, attentional_pool=True, output_tokens=True, **SIZES[size]
    )  # fmt: skip


def _coca(embed_dim: int, vision: VisionConfig, width: int, **vocabulary: int) -> ClipConfig:
    text = openai_text(
        width, 12, context_length=CONTEXT_LENGTH, embed_cls=True, output_tokens=True, **vocabulary
    )
    decoder = MultimodalConfig(CONTEXT_LENGTH, width, heads=width // 64, layers=12)
    return ClipConfig(embed_dim, vision, text, custom_text=True, multimodal_cfg=decoder)


def _roberta() -> ClipConfig:
    """Return the model whose decoder writes the first 49,408 of the text tower's 50,265 tokens."""
    vision = VisionConfig(224, 32, output_tokens=True, **SIZES["B"])
    text = HfTextConfig(
        "roberta-base", hf_tokenizer_name="roberta-base", hf_proj_type="linear", output_tokens=True
    )
    decoder = MultimodalConfig(
        CONTEXT_LENGTH, text.width, heads=8, layers=12, vocab_size=text.decoder_vocabulary
    )
    return ClipConfig(512, vision, text, custom_text=True, multimodal_cfg=decoder)
