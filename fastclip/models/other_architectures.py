"""The architectures of open_clip that are not built in, each with the reason and the way around.

Source: names of open_clip_torch 3.3.0, `list_models()` (a test compares them).
"""

# Reasons by kind, with the names of each kind.
_KINDS = {
    "it is a CoCa model whose text tower is a Hugging Face model": ("coca_roberta-ViT-B-32",),
    "its image tower is timm's; TwoTower takes timm.create_model(...) as image_encoder": (
        "convnext_base", "convnext_base_w", "convnext_base_w_320", "convnext_large",
        "convnext_large_d", "convnext_large_d_320", "convnext_small", "convnext_tiny",
        "convnext_xlarge", "convnext_xxlarge", "convnext_xxlarge_320",
        "EVA01-g-14", "EVA01-g-14-plus", "EVA02-B-16", "EVA02-E-14", "EVA02-E-14-plus",
        "EVA02-L-14", "EVA02-L-14-336",
        "MobileCLIP-B", "MobileCLIP-S1", "MobileCLIP-S2", "MobileCLIP2-B", "MobileCLIP2-L-14",
        "MobileCLIP2-S0", "MobileCLIP2-S2", "MobileCLIP2-S3", "MobileCLIP2-S4",
        "PE-Core-B-16", "PE-Core-bigG-14-448", "PE-Core-L-14-336", "PE-Core-S-16-384",
        "PE-Core-T-16-384",
        "swin_base_patch4_window7_224", "vit_medium_patch16_gap_256",
        "vit_relpos_medium_patch16_cls_224",
        "ViTamin-B", "ViTamin-B-LTT", "ViTamin-L", "ViTamin-L-256", "ViTamin-L-336",
        "ViTamin-L-384", "ViTamin-L2", "ViTamin-L2-256", "ViTamin-L2-336", "ViTamin-L2-384",
        "ViTamin-S", "ViTamin-S-LTT", "ViTamin-XL-256", "ViTamin-XL-336", "ViTamin-XL-384",
    ),
    "its text tower is a Hugging Face model; TwoTower takes one as text_encoder": (
        "mt5-base-ViT-B-32", "mt5-xl-ViT-H-14", "nllb-clip-base", "nllb-clip-base-siglip",
        "nllb-clip-large", "nllb-clip-large-siglip", "roberta-ViT-B-32",
        "xlm-roberta-base-ViT-B-32", "xlm-roberta-large-ViT-H-14",
    ),
}  # fmt: skip

OTHER_ARCHITECTURES = {name: reason for reason, names in _KINDS.items() for name in names}
