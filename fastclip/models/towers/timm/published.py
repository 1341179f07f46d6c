"""Published weights of the models with a tower of timm's: tags, and where they are.

Source: open_clip_torch 3.3.0, `list_pretrained()`.
"""

from fastclip.models.towers.timm.presets import PE_CORE, VITAMIN

CONVNEXT = "laion/CLIP-convnext_"

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
    "convnext_base": {"laion400m_s13b_b51k": f"{CONVNEXT}base-laion400M-s13B-b51K"},
    "convnext_base_w": {
        "laion2b_s13b_b82k": f"{CONVNEXT}base_w-laion2B-s13B-b82K",
        "laion2b_s13b_b82k_augreg": f"{CONVNEXT}base_w-laion2B-s13B-b82K-augreg",
        "laion_aesthetic_s13b_b82k": f"{CONVNEXT}base_w-laion_aesthetic-s13B-b82K",
    },
    "convnext_base_w_320": {
        "laion_aesthetic_s13b_b82k": f"{CONVNEXT}base_w_320-laion_aesthetic-s13B-b82K",
        "laion_aesthetic_s13b_b82k_augreg": (
            f"{CONVNEXT}base_w_320-laion_aesthetic-s13B-b82K-augreg"
        ),
    },
    "convnext_large_d": {
        "laion2b_s26b_b102k_augreg": f"{CONVNEXT}large_d.laion2B-s26B-b102K-augreg"
    },
    "convnext_large_d_320": {
        "laion2b_s29b_b131k_ft": f"{CONVNEXT}large_d_320.laion2B-s29B-b131K-ft",
        "laion2b_s29b_b131k_ft_soup": f"{CONVNEXT}large_d_320.laion2B-s29B-b131K-ft-soup",
    },
    "convnext_xxlarge": {
        f"laion2b_s34b_b82k_augreg{end.replace('-', '_')}": (
            f"{CONVNEXT}xxlarge-laion2B-s34B-b82K-augreg{end}"
        )
        for end in ("", "-rewind", "-soup")
    },
}
REPOSITORIES |= {
    name: {"dfndr2b": f"timm/{name}-OpenCLIP"}
    for name in (f"MobileCLIP2-{size}" for size in ("B", "L-14", "S0", "S2", "S3", "S4"))
}
REPOSITORIES |= {name: {"meta": f"timm/{name}"} for name in PE_CORE}


def _of_vitamin(name: str) -> str:
    """The file that open_clip names: the repositories' configurations are not open_clip's."""
    if name.startswith(("ViTamin-L", "ViTamin-X")):
        name += "px" if name[-3:].isdigit() else "-224px"
    return f"jienengchen/{name}/pytorch_model.bin"


REPOSITORIES |= {name: {"datacomp1b": _of_vitamin(name)} for name in VITAMIN}
