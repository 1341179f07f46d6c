"""The architectures by name: all of open_clip's, TIPS, and our own.

    ViT-<size>-<patch>[-<image size>][-quickgelu]     class token; OpenAI, LAION, DataComp, MetaCLIP
    ViT-Mini-4-32, ViT-Mini-8-64, ViT-Ti-16-128       fastclip's: small images, texts in bytes
    ViT-<size>-<patch>-CLIPA[-<image size>]           averaged patches, BERT's vocabulary
    ViT-<size>-<patch>-worldwide[...]                 MetaCLIP 2, multilingual vocabularies
    RN<layers>[x<factor>][-quickgelu]                 ModifiedResNet
    ViT-<size>-<patch>-SigLIP[2][-<image size>]       SigLIP, read out by attention
    ViT-<size>-16-SigLIP2-naflex                      images of any aspect ratio (main branch)
    coca_base, coca_[roberta-]ViT-<size>-<patch>      CoCa, which writes captions too
    convnext_<size>[...], PE-Core-<size>-<patch>[...] ConvNeXt, Perception Encoder
    EVA..., MobileCLIP..., ViTamin-..., ...           towers of timm's
    roberta-..., xlm-roberta-..., mt5-..., nllb-...   text towers of transformers
    TIPS-v2-<size>-<patch>                            TIPS, with two class tokens; not open_clip's

Each tower lists its own architectures; a test compares them with open_clip's.
"""

from fastclip.data.preprocess import PreprocessCfg
from fastclip.models.clip_config import ClipConfig
from fastclip.models.coca.presets import presets as coca_presets
from fastclip.models.towers.table import IMAGE_TOWERS, TEXT_TOWERS
from fastclip.models.towers.text.config import OPENAI_VOCAB_SIZE as OPENAI_VOCAB_SIZE
from fastclip.models.towers.text_config import TextTowerConfig

TOWERS = (*IMAGE_TOWERS, *TEXT_TOWERS)
PRESETS = {name: model for tower in TOWERS for name, model in tower.presets().items()}
PRESETS |= coca_presets()
QUICKGELU = tuple(name for name in PRESETS if f"{name}-quickgelu" in PRESETS)


def has_clip_vocabulary(text: TextTowerConfig) -> bool:
    """Whether a text tower takes the ids of OpenAI's tokenizer."""
    return text.has_clip_vocabulary()


def preprocess_of(config: ClipConfig) -> PreprocessCfg:
    """Return how images are usually prepared for published weights of such a model."""
    return config.vision_cfg.preprocess()
