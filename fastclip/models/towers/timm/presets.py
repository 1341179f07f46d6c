"""The models with an image tower of timm's that open_clip has names for.

Source: the model configurations of open_clip_torch 3.3.0.
"""

from collections import defaultdict
from typing import Any

from fastclip.models.clip_config import ClipConfig
from fastclip.models.towers.text.presets import openai_text
from fastclip.models.towers.timm.config import TimmConfig

Row = tuple[str, int, int, int, int]
CLASSIFIER = {"timm_proj": None}  # the trunk's own classifier projects the features
HEAD = {"timm_pool": "", "timm_proj": "linear"}  # a head after the trunk's own pooling projects
# name: timm's name, image size, embed_dim, text width, text layers
EVA: dict[str, Row] = {
    "EVA01-g-14": ("eva_giant_patch14_224", 224, 1024, 768, 12),
    "EVA01-g-14-plus": ("eva_giant_patch14_224", 224, 1024, 1024, 24),
    "EVA02-B-16": ("eva02_base_patch16_clip_224", 224, 512, 512, 12),
    "EVA02-L-14": ("eva02_large_patch14_clip_224", 224, 768, 768, 12),
    "EVA02-L-14-336": ("eva02_large_patch14_clip_336", 336, 768, 768, 12),
    "EVA02-E-14": ("eva02_enormous_patch14_clip_224", 224, 1024, 1024, 24),
    "EVA02-E-14-plus": ("eva02_enormous_patch14_clip_224", 224, 1024, 1280, 32),
}
MOBILE_CLIP: dict[str, Row] = {
    "MobileCLIP-S1": ("fastvit_mci1", 256, 512, 512, 12),
    "MobileCLIP-S2": ("fastvit_mci2", 256, 512, 512, 12),
    "MobileCLIP-B": ("vit_base_mci_224", 224, 512, 512, 12),
    "MobileCLIP2-S0": ("fastvit_mci0", 256, 512, 512, 12),
    "MobileCLIP2-S2": ("fastvit_mci2", 256, 512, 512, 12),
    "MobileCLIP2-S3": ("fastvit_mci3", 256, 768, 768, 12),
    "MobileCLIP2-S4": ("fastvit_mci4", 256, 768, 768, 12),
    "MobileCLIP2-B": ("vit_base_mci_224", 224, 512, 512, 12),
    "MobileCLIP2-L-14": ("vit_large_patch14_clip_224", 224, 768, 768, 12),
}
VITAMIN: dict[str, Row] = {
    "ViTamin-S": ("vitamin_small_224", 224, 384, 384, 12),
    "ViTamin-S-LTT": ("vitamin_small_224", 224, 768, 768, 12),
    "ViTamin-B": ("vitamin_base_224", 224, 512, 512, 12),
    "ViTamin-B-LTT": ("vitamin_base_224", 224, 768, 768, 12),
    "ViTamin-L": ("vitamin_large_224", 224, 768, 768, 12),
    "ViTamin-L-256": ("vitamin_large_256", 256, 768, 768, 12),
    "ViTamin-L-336": ("vitamin_large_336", 336, 768, 768, 12),
    "ViTamin-L-384": ("vitamin_large_384", 384, 768, 768, 12),
    "ViTamin-L2": ("vitamin_large2_224", 224, 1024, 1024, 24),
    "ViTamin-L2-256": ("vitamin_large2_256", 256, 1024, 1024, 24),
    "ViTamin-L2-336": ("vitamin_large2_336", 336, 1024, 1024, 24),
    "ViTamin-L2-384": ("vitamin_large2_384", 384, 1024, 1024, 24),
    "ViTamin-XL-256": ("vitamin_xlarge_256", 256, 1152, 1152, 27),
    "ViTamin-XL-336": ("vitamin_xlarge_336", 336, 1152, 1152, 27),
    # open_clip's configuration says 256 pixels here, but the trunk only takes 384.
    "ViTamin-XL-384": ("vitamin_xlarge_384", 384, 1152, 1152, 27),
}
OTHERS: dict[str, Row] = {
    "swin_base_patch4_window7_224": ("swin_base_patch4_window7_224", 224, 640, 640, 12),
    "vit_medium_patch16_gap_256": ("vit_medium_patch16_gap_256", 256, 512, 512, 12),
    "vit_relpos_medium_patch16_cls_224": ("vit_relpos_medium_patch16_cls_224", 224, 512, 512, 12),
}
# The image sizes of each of timm's names above.
SIZES: dict[str, set[tuple[int, int]]] = defaultdict(set)
for _family in (EVA, MOBILE_CLIP, VITAMIN, OTHERS):
    for _name, _size, *_ in _family.values():
        SIZES[_name].add((_size, _size))


def presets() -> dict[str, ClipConfig]:
    """Return the models by name."""
    models = {name: _model(row, CLASSIFIER, timm_pool="token") for name, row in EVA.items()}
    models |= {name: _mobile_clip(name, row) for name, row in MOBILE_CLIP.items()}
    models |= {name: _model(row, HEAD, timm_drop_path=0.1) for name, row in VITAMIN.items()}
    return models | {name: _model(row, HEAD, {}, False) for name, row in OTHERS.items()}


def _model(
    row: Row,
    readout: dict[str, Any],
    text: dict[str, Any] | None = None,
    custom_text: bool = True,
    **tower: Any,
) -> ClipConfig:
    timm_name, image_size, embed_dim, text_width, text_layers = row
    # ViTamin-XL's heads have 72 channels.
    told = {"heads": 16} if text_width == 1152 else {}
    return ClipConfig(
        embed_dim,
        TimmConfig(timm_name, (image_size, image_size), **readout | tower),
        openai_text(text_width, text_layers, **told | (text or {})),
        custom_text=custom_text,
    )


def _mobile_clip(name: str, row: Row) -> ClipConfig:
    """Source: Vasu et al. 2023, arXiv:2311.17049; Faghri et al. 2025, arXiv:2508.20691."""
    pool = "avg" if row[0].startswith("fastvit") else "token"
    drop_path = 0.1 if name == "MobileCLIP2-L-14" else 0.0
    text = {"no_causal_mask": not name.endswith("-B")}
    return _model(row, CLASSIFIER, text, timm_pool=pool, timm_drop_path=drop_path)
