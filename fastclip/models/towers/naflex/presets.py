"""SigLIP 2's NaFlex models, under the names of open_clip's main branch.

Source: sizes as in open_clip's configurations of these names; Tschannen et al. 2025,
arXiv:2502.14786.
"""

from fastclip.models.clip_config import SIGLIP_LOGIT_BIAS, SIGLIP_LOGIT_SCALE, ClipConfig
from fastclip.models.towers.naflex.config import NaflexConfig
from fastclip.models.towers.siglip.config import SIGLIP_SIZES
from fastclip.models.towers.siglip.text import VOCABULARIES, siglip_text
from fastclip.models.towers.text.config import TextConfig

# name: size, image size, the repository whose copy of the tokenizer open_clip takes
NAFLEX_MODELS = {
    "ViT-B-16-SigLIP2-naflex": ("base", 256, "timm/ViT-B-16-SigLIP2-256"),
    "ViT-SO400M-16-SigLIP2-naflex": ("so400m", 384, "timm/ViT-SO400M-16-SigLIP2-256"),
}


def presets() -> dict[str, ClipConfig]:
    """Return the NaFlex models by name."""
    return {name: _naflex(*row) for name, row in NAFLEX_MODELS.items()}


def _naflex(size: str, image_size: int, tokenizer: str) -> ClipConfig:
    vision = NaflexConfig(image_size, 16, **SIGLIP_SIZES[size])
    vocab_size = VOCABULARIES["gemma"]
    readout = siglip_text(vocab_size) | {"hf_tokenizer_name": tokenizer}
    text = TextConfig(64, vocab_size, **SIGLIP_SIZES[size], **readout, activation="gelu_tanh")
    return ClipConfig(
        vision.width, vision, text, custom_text=True,
        init_logit_scale=SIGLIP_LOGIT_SCALE, init_logit_bias=SIGLIP_LOGIT_BIAS,
    )  # fmt: skip
