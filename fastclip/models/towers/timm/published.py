"""Published weights of the models with an image tower of timm's: tags, and their repositories.

Source: open_clip_torch 3.3.0, `list_pretrained()`.
"""

from fastclip.models.towers.timm.presets import VITAMIN

# open_clip's name of a model: its tags, and the repositories that hold them
REPOSITORIES = {
    "EVA01-g-14": {"laion400m_s11b_b41k": "timm/eva_giant_patch14_clip_224.laion400m_s11b_b41k"},
    "EVA01-g-14-plus": {
        "merged2b_s11b_b114k": "timm/eva_giant_patch14_plus_clip_224.merged2b_s11b_b114k"
    },
    "EVA02-B-16": {"merged2b_s8b_b131k": "timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k"},
    "EVA02-L-14": {"merged2b_s4b_b131k": "timm/eva02_large_patch14_clip_224.merged2b_s4b_b131k"},
    "EVA02-L-14-336": {"merged2b_s6b_b61k": "timm/eva02_large_patch14_clip_336.merged2b_s6b_b61k"},
    "EVA02-E-14": {"laion2b_s4b_b115k": "timm/eva02_enormous_patch14_clip_224.laion2b_s4b_b115k"},
    "EVA02-E-14-plus": {
        "laion2b_s9b_b144k": "timm/eva02_enormous_patch14_plus_clip_224.laion2b_s9b_b144k"
    },
    "MobileCLIP-S1": {"datacompdr": "apple/MobileCLIP-S1-OpenCLIP"},
    "MobileCLIP-S2": {"datacompdr": "apple/MobileCLIP-S2-OpenCLIP"},
    "MobileCLIP-B": {
        "datacompdr": "apple/MobileCLIP-B-OpenCLIP",
        "datacompdr_lt": "apple/MobileCLIP-B-LT-OpenCLIP",
    },
}
REPOSITORIES |= {
    name: {"dfndr2b": f"timm/{name}-OpenCLIP"}
    for name in (f"MobileCLIP2-{size}" for size in ("B", "L-14", "S0", "S2", "S3", "S4"))
}


def _of_vitamin(name: str) -> str:
    """The file that open_clip names, because the repositories have no open_clip configuration."""
    if name.startswith(("ViTamin-L", "ViTamin-X")):
        name += "px" if name[-3:].isdigit() else "-224px"
    return f"jienengchen/{name}/pytorch_model.bin"


REPOSITORIES |= {name: {"datacomp1b": _of_vitamin(name)} for name in VITAMIN}
