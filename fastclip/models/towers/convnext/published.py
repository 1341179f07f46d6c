"""Published weights of the ConvNeXt models: the tags of each model, and their repositories.

Source: open_clip_torch 3.3.0, `list_pretrained()`.
"""

CONVNEXT = "laion/CLIP-convnext_"

# open_clip's name of a model: its tags, and the repositories that hold them
REPOSITORIES = {
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
