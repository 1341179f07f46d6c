"""The models with a vision transformer that open_clip has names for, and fastclip's own small ones.

Source: sizes as in the model configurations of open_clip_torch 3.3.0; Radford et al. 2021,
arXiv:2103.00020, table 20.
"""

from dataclasses import replace

from fastclip.models.clip_config import ClipConfig
from fastclip.models.towers.text.presets import openai_text
from fastclip.models.towers.vision_transformer.config import VisionConfig

SIZES = {
    "Mini": dict(width=128, layers=4),
    "Ti": dict(width=192, layers=12),
    "S": dict(width=384, layers=12),
    "M": dict(width=512, layers=12),
    "B": dict(width=768, layers=12),
    "B+": dict(width=896, layers=12),
    "L": dict(width=1024, layers=24),
    "H": dict(width=1280, layers=32, head_width=80),
    "g": dict(width=1408, layers=40, head_width=88, mlp_ratio=4.3637),
    "bigG": dict(width=1664, layers=48, head_width=104, mlp_ratio=4.9231),
    "e": dict(width=1792, layers=56, head_width=112, mlp_ratio=8.5715),
}

# name: vision size, patch size, image size, text width, text layers
VITS = {
    "ViT-S-32": ("S", 32, 224, 384, 12),
    "ViT-S-32-alt": ("S", 32, 224, 256, 10),
    "ViT-S-16": ("S", 16, 224, 384, 12),
    "ViT-S-16-alt": ("S", 16, 224, 256, 10),
    "ViT-M-32": ("M", 32, 224, 512, 12),
    "ViT-M-32-alt": ("M", 32, 224, 384, 12),
    "ViT-M-16": ("M", 16, 224, 512, 12),
    "ViT-M-16-alt": ("M", 16, 224, 384, 12),
    "ViT-B-32": ("B", 32, 224, 512, 12),
    "ViT-B-32-256": ("B", 32, 256, 512, 12),
    "ViT-B-32-plus-256": ("B+", 32, 256, 640, 12),
    "ViT-B-16": ("B", 16, 224, 512, 12),
    "ViT-B-16-plus": ("B+", 16, 224, 640, 12),
    "ViT-B-16-plus-240": ("B+", 16, 240, 640, 12),
    "ViT-L-16": ("L", 16, 224, 768, 12),
    "ViT-L-16-320": ("L", 16, 320, 768, 12),
    "ViT-L-14": ("L", 14, 224, 768, 12),
    "ViT-L-14-280": ("L", 14, 280, 768, 12),
    "ViT-L-14-336": ("L", 14, 336, 768, 12),
    "ViT-H-16": ("H", 16, 224, 1024, 24),
    "ViT-H-14": ("H", 14, 224, 1024, 24),
    "ViT-H-14-378": ("H", 14, 378, 1024, 24),
    "ViT-g-14": ("g", 14, 224, 1024, 24),
    "ViT-bigG-14": ("bigG", 14, 224, 1280, 32),
    "ViT-e-14": ("e", 14, 224, 1280, 36),
}

# fastclip's own models, to train on few small images: a CPU trains on 3,000 of them in minutes.
# They need no vocabulary, because every byte of a text is a token.
# name: vision size, patch size, image size, text width, text layers
SMALL = {
    "ViT-Mini-4-32": ("Mini", 4, 32, 128, 4),
    "ViT-Mini-8-64": ("Mini", 8, 64, 128, 4),
    "ViT-Ti-16-128": ("Ti", 16, 128, 192, 6),
}
OF_BYTES = dict(
    context_length=128, vocab_size=2 * 256 + 2, tokenizer_kwargs={"vocabulary": "bytes"}
)  # fmt: skip

# name: the ViT that it is a variant of, image size
CLIPA = {
    "ViT-L-14-CLIPA": ("ViT-L-14", 224),
    "ViT-L-14-CLIPA-336": ("ViT-L-14", 336),
    "ViT-H-14-CLIPA": ("ViT-H-14", 224),
    "ViT-H-14-CLIPA-336": ("ViT-H-14", 336),
    "ViT-bigG-14-CLIPA": ("ViT-bigG-14", 224),
    "ViT-bigG-14-CLIPA-336": ("ViT-bigG-14", 336),
}

XLM_V = dict(hf_tokenizer_name="facebook/xlm-v-base", vocab_size=901629, eos_id=2)
MT5 = dict(
    hf_tokenizer_name="google/mt5-base", vocab_size=250100, eos_id=1,
    tokenizer_kwargs={"clean": "canonicalize"},
)  # fmt: skip
WORLDWIDE = {
    "ViT-L-14-worldwide": ("ViT-L-14", MT5),
    "ViT-H-14-worldwide": ("ViT-H-14", XLM_V),
    "ViT-H-14-worldwide-378": ("ViT-H-14-378", XLM_V),
    "ViT-bigG-14-worldwide": ("ViT-bigG-14", XLM_V),
    "ViT-bigG-14-worldwide-378": ("ViT-bigG-14", XLM_V),
}

# The models with published weights from OpenAI, MetaCLIP or DFN, which use QuickGELU.
QUICKGELU = (
    "ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "ViT-H-14", "ViT-H-14-378", "ViT-bigG-14",
    "ViT-H-14-worldwide", "ViT-L-14-worldwide",
)  # fmt: skip


def presets() -> dict[str, ClipConfig]:
    """Return the models by name."""
    models = {name: _vit(*row) for name, row in VITS.items()}
    # This is the only model with LayerScale.
    alt = models["ViT-M-16-alt"]
    models["ViT-M-16-alt"] = replace(alt, vision_cfg=replace(alt.vision_cfg, ls_init_value=1e-4))
    models |= {name: _small(*row) for name, row in SMALL.items()}
    models |= {name: _clipa(*row) for name, row in CLIPA.items()}
    models |= {name: _worldwide(name, *row) for name, row in WORLDWIDE.items()}
    return models | {f"{name}-quickgelu": models[name].with_quick_gelu() for name in QUICKGELU}


def _vit(size: str, patch_size: int, image_size: int, width: int, layers: int) -> ClipConfig:
    vision = VisionConfig(image_size, patch_size, **SIZES[size])
    return ClipConfig(width, vision, openai_text(width, layers))


def _small(size: str, patch_size: int, image_size: int, width: int, layers: int) -> ClipConfig:
    base = _vit(size, patch_size, image_size, width, layers)
    return replace(base, text_cfg=replace(base.text_cfg, **OF_BYTES))


def _clipa(vit: str, image_size: int) -> ClipConfig:
    """Source: Li et al. 2023, arXiv:2305.07017."""
    base = _vit(*VITS[vit])
    vision = replace(
        base.vision_cfg, image_size=(image_size, image_size), no_ln_pre=True, pool_type="avg",
        final_ln_after_pool=True,
    )  # fmt: skip
    text = replace(
        base.text_cfg, context_length=32, vocab_size=32000, no_causal_mask=True, pool_type="last",
        hf_tokenizer_name="bert-base-uncased", tokenizer_kwargs={"strip_sep_token": True},
    )  # fmt: skip
    return replace(base, vision_cfg=vision, text_cfg=text)


def _worldwide(name: str, vit: str, vocabulary: dict) -> ClipConfig:
    base = _vit(*VITS[vit])
    image_size = 378 if name.endswith("-378") else 224
    vision = replace(base.vision_cfg, image_size=(image_size, image_size))
    text = replace(base.text_cfg, pool_type="eos", **vocabulary)
    return replace(base, vision_cfg=vision, text_cfg=text)
