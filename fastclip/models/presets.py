"""The architectures that open_clip has names for, as far as their towers are built in.

    ViT-<size>-<patch>[-<image size>][-quickgelu]     class token; OpenAI, LAION, DataComp, MetaCLIP
    ViT-<size>-<patch>-CLIPA[-<image size>]           averaged patches, BERT's vocabulary
    ViT-<size>-<patch>-worldwide[...]                 MetaCLIP 2, multilingual vocabularies
    RN<layers>[x<factor>][-quickgelu]                 ModifiedResNet
    ViT-<size>-<patch>-SigLIP[2][-<image size>]       SigLIP, read out by attention

Source: sizes as in the model configurations of open_clip_torch 3.3.0 (a test compares them);
Radford et al. 2021, arXiv:2103.00020, tables 19 and 20; Zhai et al. 2023, arXiv:2303.15343.
"""

from dataclasses import replace

from fastclip.data.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    INCEPTION_MEAN,
    INCEPTION_STD,
    PreprocessCfg,
)
from fastclip.models.config import (
    SIGLIP_LOGIT_BIAS,
    SIGLIP_LOGIT_SCALE,
    ClipConfig,
    ResNetConfig,
    SiglipVisionConfig,
    TextConfig,
    VisionConfig,
)
from fastclip.models.open_clip_config import SIGLIP_SIZES, siglip_from_timm_name

OPENAI_VOCAB_SIZE = 49408

VISION_SIZES = {
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

# name: layers, width, image size, embed_dim, text width
RESNETS = {
    "RN50": ((3, 4, 6, 3), 64, 224, 1024, 512),
    "RN101": ((3, 4, 23, 3), 64, 224, 512, 512),
    "RN50x4": ((4, 6, 10, 6), 80, 288, 640, 640),
    "RN50x16": ((6, 8, 18, 8), 96, 384, 768, 768),
    "RN50x64": ((3, 15, 36, 10), 128, 448, 1024, 1024),
}

QUICKGELU = (
    *RESNETS, "ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "ViT-H-14", "ViT-H-14-378",
    "ViT-bigG-14", "ViT-H-14-worldwide", "ViT-L-14-worldwide",
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

# name: vision size, patch size, image size, vocabulary, text's context length
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
SIGLIP_VOCABULARIES = {"english": 32000, "i18n": 250000, "gemma": 256000}
SIGLIP_TOKENIZERS = {
    "english": "timm/ViT-B-16-SigLIP",
    "i18n": "timm/ViT-B-16-SigLIP-i18n-256",
    "gemma": "timm/ViT-B-16-SigLIP2",
}


def _text(width: int, layers: int, **changes) -> TextConfig:
    sizes = dict(context_length=77, vocab_size=OPENAI_VOCAB_SIZE)
    return TextConfig(width=width, heads=width // 64, layers=layers, **sizes | changes)


def _vit(size: str, patch_size: int, image_size: int, width: int, layers: int) -> ClipConfig:
    vision = VisionConfig(image_size, patch_size, **VISION_SIZES[size])
    return ClipConfig(width, vision, _text(width, layers))


def _resnet(layers: tuple, width: int, image_size: int, embed_dim: int, text_width: int):
    return ClipConfig(embed_dim, ResNetConfig(image_size, layers, width), _text(text_width, 12))


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


def _siglip(name: str, size: str, patch_size: int, image_size: int, vocabulary: str, context: int):
    vision = siglip_from_timm_name(f"vit_{size}_patch{patch_size}_siglip_{image_size}")
    # The largest vision tower has the text tower of the one below it.
    text_numbers = SIGLIP_SIZES["so400m" if size == "giantopt" else size]
    has_projection = name != "ViT-SO400M-16-SigLIP-i18n-256"
    text = TextConfig(
        context, SIGLIP_VOCABULARIES[vocabulary], **text_numbers, no_causal_mask=True,
        pool_type="last", norm_eps=1e-6, proj_bias=has_projection,
        proj_type="linear" if has_projection else "none",
        activation="gelu_tanh" if vocabulary == "gemma" else "gelu",
        hf_tokenizer_name=_siglip_tokenizer(name, vocabulary),
        tokenizer_kwargs={"clean": "canonicalize"},
    )  # fmt: skip
    return ClipConfig(
        vision.width, vision, text, custom_text=True,
        init_logit_scale=SIGLIP_LOGIT_SCALE, init_logit_bias=SIGLIP_LOGIT_BIAS,
    )  # fmt: skip


def _siglip_tokenizer(name: str, vocabulary: str) -> str:
    # The repositories of the models with Gemma's vocabulary each hold a copy of it.
    return f"timm/{name}" if vocabulary == "gemma" else SIGLIP_TOKENIZERS[vocabulary]


def _quickgelu(config: ClipConfig) -> ClipConfig:
    vision = config.vision_cfg
    if isinstance(vision, VisionConfig):
        vision = replace(vision, activation="quick_gelu")
    text = replace(config.text_cfg, activation="quick_gelu")
    return replace(config, vision_cfg=vision, text_cfg=text)


def _presets() -> dict[str, ClipConfig]:
    presets = {name: _vit(*row) for name, row in VITS.items()}
    # The one with LayerScale.
    alt = presets["ViT-M-16-alt"]
    presets["ViT-M-16-alt"] = replace(alt, vision_cfg=replace(alt.vision_cfg, ls_init_value=1e-4))
    presets |= {name: _resnet(*row) for name, row in RESNETS.items()}
    presets |= {name: _clipa(*row) for name, row in CLIPA.items()}
    presets |= {name: _worldwide(name, *row) for name, row in WORLDWIDE.items()}
    presets |= {f"{name}-quickgelu": _quickgelu(presets[name]) for name in QUICKGELU}
    presets |= {name: _siglip(name, *row) for name, row in SIGLIPS.items()}
    return presets


PRESETS = _presets()


def has_clip_vocabulary(text: TextConfig) -> bool:
    """Whether a text tower takes the ids of OpenAI's tokenizer."""
    return text.hf_tokenizer_name is None and text.vocab_size == OPENAI_VOCAB_SIZE


def siglip_tokenizer_of(vocab_size: int) -> str | None:
    """Hugging Face name of a tokenizer of SigLIP's with that many tokens, or None."""
    for vocabulary, size in SIGLIP_VOCABULARIES.items():
        if size == vocab_size:
            return SIGLIP_TOKENIZERS[vocabulary]
    return None


def preprocess_of(config: ClipConfig) -> PreprocessCfg:
    """How images are prepared for published weights of such a model, if nothing else is known."""
    size = config.vision_cfg.image_size
    if isinstance(config.vision_cfg, SiglipVisionConfig):
        return PreprocessCfg(size, mean=INCEPTION_MEAN, std=INCEPTION_STD, resize_mode="squash")
    if isinstance(config.vision_cfg, VisionConfig) and config.vision_cfg.no_ln_pre:  # CLIPA
        return PreprocessCfg(
            size, mean=IMAGENET_MEAN, std=IMAGENET_STD, interpolation="bilinear",
            resize_mode="squash",
        )  # fmt: skip
    return PreprocessCfg(size)
