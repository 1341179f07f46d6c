"""SigLIP's models, by open_clip's names.

Source: sizes as in the model configurations of open_clip_torch 3.3.0; Zhai et al. 2023,
arXiv:2303.15343.
"""

from fastclip.models.clip_config import SIGLIP_LOGIT_BIAS, SIGLIP_LOGIT_SCALE, ClipConfig
from fastclip.models.towers.siglip.config import SIGLIP_SIZES, SiglipVisionConfig
from fastclip.models.towers.siglip.text import TOKENIZERS, VOCABULARIES, siglip_text
from fastclip.models.towers.text.config import TextConfig

# name: vision size, patch size, image size, vocabulary, context length
SIGLIPS = {
    "ViT-B-16-SigLIP": ("base", 16, 224, "english", 64),
    "ViT-B-16-SigLIP-256": ("base", 16, 256, "english", 64),
    "ViT-B-16-SigLIP-384": ("base", 16, 384, "english", 64),
    "ViT-B-16-SigLIP-512": ("base", 16, 512, "english", 64),
    "ViT-B-16-SigLIP-i18n-256": ("base", 16, 256, "i18n", 64),
    "ViT-L-16-SigLIP-256": ("large", 16, 256, "english", 64),
    "ViT-L-16-SigLIP-384": ("large", 16, 384, "english", 64),
    "ViT-SO400M-14-SigLIP": ("so400m", 14, 224, "english", 16),
    "ViT-SO400M-14-SigLIP-378": ("so400m", 14, 378, "english", 64),
    "ViT-SO400M-14-SigLIP-384": ("so400m", 14, 384, "english", 64),
    "ViT-SO400M-16-SigLIP-i18n-256": ("so400m", 16, 256, "i18n", 64),
    "ViT-B-32-SigLIP2-256": ("base", 32, 256, "gemma", 64),
    "ViT-B-16-SigLIP2": ("base", 16, 224, "gemma", 64),
    "ViT-B-16-SigLIP2-256": ("base", 16, 256, "gemma", 64),
    "ViT-B-16-SigLIP2-384": ("base", 16, 384, "gemma", 64),
    "ViT-B-16-SigLIP2-512": ("base", 16, 512, "gemma", 64),
    "ViT-L-16-SigLIP2-256": ("large", 16, 256, "gemma", 64),
    "ViT-L-16-SigLIP2-384": ("large", 16, 384, "gemma", 64),
    "ViT-L-16-SigLIP2-512": ("large", 16, 512, "gemma", 64),
    "ViT-SO400M-14-SigLIP2": ("so400m", 14, 224, "gemma", 64),
    "ViT-SO400M-14-SigLIP2-378": ("so400m", 14, 378, "gemma", 64),
    "ViT-SO400M-16-SigLIP2-256": ("so400m", 16, 256, "gemma", 64),
    "ViT-SO400M-16-SigLIP2-384": ("so400m", 16, 384, "gemma", 64),
    "ViT-SO400M-16-SigLIP2-512": ("so400m", 16, 512, "gemma", 64),
    "ViT-gopt-16-SigLIP2-256": ("giantopt", 16, 256, "gemma", 64),
    "ViT-gopt-16-SigLIP2-384": ("giantopt", 16, 384, "gemma", 64),
}


def presets() -> dict[str, ClipConfig]:
    """Return SigLIP's models by name."""
    return {name: _siglip(name, *row) for name, row in SIGLIPS.items()}


def _siglip(
    name: str, size: str, patch_size: int, image_size: int, vocabulary: str, context_length: int
) -> ClipConfig:
    vision = SiglipVisionConfig.of_timm(f"vit_{size}_patch{patch_size}_siglip_{image_size}")
    # The largest vision tower has the same text tower as the second largest.
    text_sizes = SIGLIP_SIZES["so400m" if size == "giantopt" else size]
    vocab_size = VOCABULARIES[vocabulary]
    readout = siglip_text(vocab_size, has_projection=name != "ViT-SO400M-16-SigLIP-i18n-256")
    readout |= {"hf_tokenizer_name": _tokenizer(name, vocabulary)}
    text = TextConfig(
        context_length, vocab_size, **text_sizes, **readout,
        activation="gelu_tanh" if vocabulary == "gemma" else "gelu",
    )  # fmt: skip
    return ClipConfig(
        vision.width, vision, text, custom_text=True,
        init_logit_scale=SIGLIP_LOGIT_SCALE, init_logit_bias=SIGLIP_LOGIT_BIAS,
    )  # fmt: skip


def _tokenizer(name: str, vocabulary: str) -> str:
    # Each repository of a model with Gemma's vocabulary holds a copy of the tokenizer.
    return f"timm/{name}" if vocabulary == "gemma" else TOKENIZERS[vocabulary]
