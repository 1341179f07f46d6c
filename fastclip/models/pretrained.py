"""Published weights by name and tag, and what is known about them before they are fetched.

Functions and results are open_clip's. Weights are fetched from their repositories on the Hugging
Face Hub, and OpenAI's weights by `fastclip.load` from OpenAI; the other addresses in this module
are where weights were first published.

Source: open_clip_torch 3.3.0, `pretrained.py` (a test compares all answers).
"""

from typing import Any

from fastclip.data.preprocess import INCEPTION_MEAN, INCEPTION_STD
from fastclip.models.presets import QUICKGELU, preprocess_of
from fastclip.models.published import (
    OPENAI,
    OPENAI_FILES,
    QUICKGELU_TAGS,
    REPOSITORIES,
)
from fastclip.models.registry import get_model_config, open_clip_name

LAION = "https://github.com/mlfoundations/open_clip/releases/download/v0.2-weights"
META = "https://dl.fbaipublicfiles.com/MMPT/metaclip"
# open_clip's name of a model without -quickgelu: tag, address
URLS = {
    "RN50": {
        "yfcc15m": f"{LAION}/rn50-quickgelu-yfcc15m-455df137.pt",
        "cc12m": f"{LAION}/rn50-quickgelu-cc12m-f000538c.pt",
    },
    "RN101": {"yfcc15m": f"{LAION}/rn101-quickgelu-yfcc15m-3e04b30e.pt"},
    "ViT-B-32": {
        "laion400m_e31": f"{LAION}/vit_b_32-quickgelu-laion400m_e31-d867053b.pt",
        "laion400m_e32": f"{LAION}/vit_b_32-quickgelu-laion400m_e32-46683a32.pt",
        "laion2b_e16": f"{LAION}/vit_b_32-laion2b_e16-af8dbd0c.pth",
        "metaclip_400m": f"{META}/b32_400m.pt",
        "metaclip_fullcc": f"{META}/b32_fullcc2.5b.pt",
    },
    "ViT-B-16": {
        "laion400m_e31": f"{LAION}/vit_b_16-laion400m_e31-00efa78f.pt",
        "laion400m_e32": f"{LAION}/vit_b_16-laion400m_e32-55e67d44.pt",
        "metaclip_400m": f"{META}/b16_400m.pt",
        "metaclip_fullcc": f"{META}/b16_fullcc2.5b.pt",
    },
    "ViT-B-16-plus-240": {
        "laion400m_e31": f"{LAION}/vit_b_16_plus_240-laion400m_e31-8fb26589.pt",
        "laion400m_e32": f"{LAION}/vit_b_16_plus_240-laion400m_e32-699c4b84.pt",
    },
    "ViT-L-14": {
        "laion400m_e31": f"{LAION}/vit_l_14-laion400m_e31-69988bb6.pt",
        "laion400m_e32": f"{LAION}/vit_l_14-laion400m_e32-3d133497.pt",
        "metaclip_400m": f"{META}/l14_400m.pt",
        "metaclip_fullcc": f"{META}/l14_fullcc2.5b.pt",
    },
    "ViT-H-14": {
        "metaclip_fullcc": f"{META}/h14_fullcc2.5b.pt",
        "metaclip_altogether": f"{META}/h14_v1.2_altogether.pt",
    },
    "ViT-bigG-14": {"metaclip_fullcc": f"{META}/G14_fullcc2.5b.pt"},
}
# OpenAI's name of a model: address
OPENAI_URLS = {
    name: f"{OPENAI}/{checksum}/{file}" for name, (checksum, file) in OPENAI_FILES.items()
}
for _name, _url in OPENAI_URLS.items():
    URLS.setdefault(open_clip_name(_name), {})["openai"] = _url

# Weights whose images are not prepared in the usual way of their architecture.
PREPROCESS = {
    ("ViT-L-14", "laion2b_s32b_b82k"): {"mean": INCEPTION_MEAN, "std": INCEPTION_STD},
    ("ViT-H-14", "dfn5b"): {"resize_mode": "squash"},
    ("ViT-H-14-378", "dfn5b"): {"resize_mode": "squash"},
    ("ViT-H-14-worldwide-378", "metaclip2_worldwide"): {"resize_mode": "squash"},
    ("ViT-bigG-14-worldwide-378", "metaclip2_worldwide"): {"resize_mode": "squash"},
}


def list_pretrained(as_str: bool = False) -> list[tuple[str, str]] | list[str]:
    """Return the names and tags of all published weights of the built-in architectures.

    Args:
        as_str: return "name:tag" instead of pairs.

    Example:
        >>> ("ViT-B-32", "laion2b_s34b_b79k") in fastclip.list_pretrained()
        True
    """
    pairs = [(name, tag) for name, tags in REPOSITORIES.items() for tag in tags]
    return [":".join(pair) for pair in pairs] if as_str else pairs


def list_pretrained_models_by_tag(tag: str) -> list[str]:
    """Return the names of the architectures that have published weights with the tag `tag`.

    Example:
        >>> "ViT-B-32" in fastclip.list_pretrained_models_by_tag("laion2b_s34b_b79k")
        True
    """
    return [name for name in REPOSITORIES if is_pretrained_cfg(name, tag)]


def list_pretrained_tags_by_model(model: str) -> list[str]:
    """Return the tags of the published weights of an architecture; empty if it is unknown.

    Example:
        >>> "openai" in fastclip.list_pretrained_tags_by_model("ViT-B-32")
        True
    """
    return list(REPOSITORIES.get(open_clip_name(model), {}))


def is_pretrained_cfg(model: str, tag: str) -> bool:
    """Whether there are published weights with that name and tag.

    Example:
        >>> fastclip.is_pretrained_cfg("ViT-B-32", "openai")
        True
    """
    return clean_tag(tag) in REPOSITORIES.get(open_clip_name(model), {})


def get_pretrained_cfg(model: str, tag: str) -> dict[str, Any]:
    """Return what is known about published weights before they are fetched, as in open_clip.

    Returns:
        A dict with `url`, which may be empty; `hf_hub`, "organisation/name/", maybe with the name
        of a file; `mean`, `std`, `interpolation` and `resize_mode` of the images; and `quick_gelu`
        if it is true. The dict is empty if there are no such weights.

    Example:
        >>> fastclip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")["hf_hub"]
        'laion/CLIP-ViT-B-32-laion2B-s34B-b79K/'
    """
    if not is_pretrained_cfg(model, tag):
        return {}
    name, tag = open_clip_name(model), clean_tag(tag)
    plain = name.removesuffix("-quickgelu")
    preprocess = preprocess_of(get_model_config(name)).to_dict()
    place = REPOSITORIES[name][tag]
    is_file = place.count("/") == 2
    cfg = {"url": URLS.get(plain, {}).get(tag, ""), "hf_hub": place if is_file else f"{place}/"}
    cfg |= {key: preprocess[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    cfg |= PREPROCESS.get((plain, tag), {})
    is_quick = tag in QUICKGELU_TAGS or (plain == "ViT-B-32" and tag.startswith("laion400m"))
    return cfg | ({"quick_gelu": True} if is_quick and plain in QUICKGELU else {})


def get_pretrained_url(model: str, tag: str) -> str:
    """Return the address of published weights outside the Hub; empty if there is none.

    Example:
        >>> fastclip.get_pretrained_url("RN50-quickgelu", "openai").startswith("https://")
        True
    """
    return get_pretrained_cfg(model, tag).get("url", "")


def clean_tag(tag: str) -> str:
    """Return a tag in the spelling of the lists: lower case, with underscores."""
    return tag.lower().replace("-", "_")
