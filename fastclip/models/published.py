"""The table of published weights: which there are, and where.

open_clip's tags are repositories on the Hugging Face Hub, each with `open_clip_config.json` next
to the weights. The architecture and the activation of a tag are read from that file, not from a
table in fastclip. OpenAI's own files come from OpenAI.

Source: open_clip_torch 3.3.0, `list_pretrained()`; openai/CLIP `clip.py`.
"""

from fastclip.models.presets import QUICKGELU
from fastclip.models.towers.convnext.published import REPOSITORIES as OF_CONVNEXT
from fastclip.models.towers.naflex.presets import NAFLEX_MODELS
from fastclip.models.towers.pe_core.presets import MODELS as PE_CORES
from fastclip.models.towers.siglip.presets import SIGLIPS
from fastclip.models.towers.timm.published import REPOSITORIES as OF_TIMM
from fastclip.models.towers.tips.presets import REPOSITORIES as OF_TIPS
from fastclip.models.towers.vision_transformer.presets import CLIPA

OPENAI = "https://openaipublic.azureedge.net/clip/models"
# OpenAI's name of a model: SHA-256 of its file, name of the file
OPENAI_FILES = {
    "RN50": ("afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762", "RN50.pt"),
    "RN101": ("8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599", "RN101.pt"),
    "RN50x4": ("7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd", "RN50x4.pt"),
    "RN50x16": ("52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa", "RN50x16.pt"),
    "RN50x64": ("be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c", "RN50x64.pt"),
    "ViT-B/32": ("40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af", "ViT-B-32.pt"),
    "ViT-B/16": ("5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f", "ViT-B-16.pt"),
    "ViT-L/14": ("b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836", "ViT-L-14.pt"),
    "ViT-L/14@336px": (
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02", "ViT-L-14-336px.pt",
    ),
}  # fmt: skip


def _metaclip(vit: str) -> dict[str, str]:
    return {
        "metaclip_400m": f"timm/{vit}.metaclip_400m",
        "metaclip_fullcc": f"timm/{vit}.metaclip_2pt5b",
    }


def _commonpool(vit: str, pool: str, samples: str, filters: tuple[str, ...]) -> dict[str, str]:
    tags = {}
    for f in filters:
        tag = "_".join(filter(None, ["commonpool", pool.lower(), f, samples.lower()]))
        pool_name = f"{pool}.{f}" if f else pool
        tags[tag.replace("-", "_")] = f"laion/CLIP-ViT-{vit}-CommonPool.{pool_name}-{samples}"
    return tags


_FILTERS = ("clip", "laion", "image", "text", "basic", "")

# open_clip's name of a model: its tags, each with a repository, or with a file in a repository
REPOSITORIES = {
    "RN50": {tag: f"timm/resnet50_clip.{tag}" for tag in ("openai", "yfcc15m", "cc12m")},
    "RN101": {tag: f"timm/resnet101_clip.{tag}" for tag in ("openai", "yfcc15m")},
    "RN50x4": {"openai": "timm/resnet50x4_clip.openai"},
    "RN50x16": {"openai": "timm/resnet50x16_clip.openai"},
    "RN50x64": {"openai": "timm/resnet50x64_clip.openai"},
    "ViT-B-32": {
        tag: f"timm/vit_base_patch32_clip_224.{tag}"
        for tag in ("openai", "laion400m_e31", "laion400m_e32", "laion2b_e16")
    }
    | {
        "laion2b_s34b_b79k": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "datacomp_xl_s13b_b90k": "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        "datacomp_m_s128m_b4k": "laion/CLIP-ViT-B-32-DataComp.M-s128M-b4K",
        "datacomp_s_s13m_b4k": "laion/CLIP-ViT-B-32-DataComp.S-s13M-b4K",
    }
    | _commonpool("B-32", "M", "s128M-b4K", _FILTERS)
    | _commonpool("B-32", "S", "s13M-b4K", _FILTERS)
    | _metaclip("vit_base_patch32_clip_224"),
    "ViT-B-32-256": {"datacomp_s34b_b86k": "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K"},
    "ViT-B-16": {
        tag: f"timm/vit_base_patch16_clip_224.{tag}"
        for tag in ("openai", "laion400m_e31", "laion400m_e32")
    }
    | {
        "laion2b_s34b_b88k": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
        "datacomp_xl_s13b_b90k": "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
        "datacomp_l_s1b_b8k": "laion/CLIP-ViT-B-16-DataComp.L-s1B-b8K",
        "dfn2b": "apple/DFN2B-CLIP-ViT-B-16",
    }
    | _commonpool("B-16", "L", "s1B-b8K", _FILTERS)
    | _metaclip("vit_base_patch16_clip_224"),
    "ViT-B-16-plus-240": {
        # open_clip names this repository for both epochs.
        tag: "timm/vit_base_patch16_plus_clip_240.laion400m_e31"
        for tag in ("laion400m_e31", "laion400m_e32")
    },
    "ViT-L-14": {
        tag: f"timm/vit_large_patch14_clip_224.{tag}"
        for tag in ("openai", "laion400m_e31", "laion400m_e32")
    }
    | {
        "laion2b_s32b_b82k": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        "datacomp_xl_s13b_b90k": "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        "dfn2b": "apple/DFN2B-CLIP-ViT-L-14",
        "dfn2b_s39b": "apple/DFN2B-CLIP-ViT-L-14-39B",
    }
    | _commonpool("L-14", "XL", "s13B-b90K", ("clip", "laion", ""))
    | _metaclip("vit_large_patch14_clip_224"),
    "ViT-L-14-336": {"openai": "timm/vit_large_patch14_clip_336.openai"},
    "ViT-H-14": {
        "laion2b_s32b_b79k": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        "metaclip_fullcc": "timm/vit_huge_patch14_clip_224.metaclip_2pt5b",
        "metaclip_altogether": "timm/vit_huge_patch14_clip_224.metaclip_altogether",
        "dfn5b": "apple/DFN5B-CLIP-ViT-H-14",
    },
    "ViT-H-14-378": {"dfn5b": "apple/DFN5B-CLIP-ViT-H-14-378"},
    "ViT-g-14": {
        "laion2b_s12b_b42k": "laion/CLIP-ViT-g-14-laion2B-s12B-b42K",
        "laion2b_s34b_b88k": "laion/CLIP-ViT-g-14-laion2B-s34B-b88K",
    },
    "ViT-bigG-14": {
        "laion2b_s39b_b160k": "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
        "metaclip_fullcc": "timm/vit_gigantic_patch14_clip_224.metaclip_2pt5b",
    },
    "ViT-H-14-worldwide": {
        "metaclip2_worldwide": "timm/vit_huge_patch14_clip_224.metaclip2_worldwide"
    },
    "ViT-H-14-worldwide-378": {
        "metaclip2_worldwide": "timm/vit_huge_patch14_clip_378.metaclip2_worldwide"
    },
    "ViT-bigG-14-worldwide": {
        "metaclip2_worldwide": "timm/vit_gigantic_patch14_clip_224.metaclip2_worldwide"
    },
    "ViT-bigG-14-worldwide-378": {
        "metaclip2_worldwide": "timm/vit_gigantic_patch14_clip_378.metaclip2_worldwide"
    },
}
REPOSITORIES |= {
    f"coca_{vit}": {
        f"{kind}laion2b_s13b_b90k": f"laion/{kind}CoCa-{vit}-laion2B-s13B-b90k"
        for kind in ("", "mscoco_finetuned_")
    }
    for vit in ("ViT-B-32", "ViT-L-14")
}
REPOSITORIES |= {name: {"datacomp1b": f"UCSC-VLAA/{name}-datacomp1B"} for name in CLIPA}
REPOSITORIES["ViT-H-14-CLIPA-336"]["laion2b"] = "UCSC-VLAA/ViT-H-14-CLIPA-336-laion2B"
REPOSITORIES |= OF_CONVNEXT | OF_TIMM | OF_TIPS
REPOSITORIES |= {name: {"meta": f"timm/{name}"} for name in PE_CORES}
REPOSITORIES |= {name: {"webli": f"timm/{name}"} for name in (*SIGLIPS, *NAFLEX_MODELS)}
REPOSITORIES["ViT-SO400M-14-SigLIP-378"]["webli"] = "timm/ViT-SO400M-14-SigLIP-384"
REPOSITORIES |= {
    "roberta-ViT-B-32": {"laion2b_s12b_b32k": "laion/CLIP-ViT-B-32-roberta-base-laion2B-s12B-b32k"},
    "xlm-roberta-base-ViT-B-32": {
        "laion5b_s13b_b90k": "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k"
    },
    "xlm-roberta-large-ViT-H-14": {
        "frozen_laion5b_s13b_b90k": (
            "laion/CLIP-ViT-H-14-frozen-xlm-roberta-large-laion5B-s13B-b90k"
        )
    },
    "nllb-clip-base": {"v1": "visheratin/nllb-clip-base-oc"},
    "nllb-clip-large": {"v1": "visheratin/nllb-clip-large-oc"},
    "nllb-clip-base-siglip": {
        "v1": "visheratin/nllb-clip-base-siglip", "mrl": "visheratin/nllb-siglip-mrl-base",
    },
    "nllb-clip-large-siglip": {
        "v1": "visheratin/nllb-clip-large-siglip", "mrl": "visheratin/nllb-siglip-mrl-large",
    },
}  # fmt: skip
# The plain names have these tags too, so that a user gets an error about the activation.
QUICKGELU_TAGS = {"openai", "yfcc15m", "cc12m", "metaclip_400m", "metaclip_fullcc", "dfn2b"}
QUICKGELU_TAGS |= {"dfn5b", "metaclip2_worldwide"}
REPOSITORIES |= {
    f"{name}-quickgelu": {t: r for t, r in REPOSITORIES[name].items() if t in QUICKGELU_TAGS}
    for name in QUICKGELU
    if name in REPOSITORIES
}
REPOSITORIES["ViT-B-32-quickgelu"] |= {
    tag: REPOSITORIES["ViT-B-32"][tag] for tag in ("laion400m_e31", "laion400m_e32")
}
