"""What is known of published weights, beside open_clip's answers."""

import pytest

import fastclip
from fastclip.models.pretrained import (
    get_pretrained_cfg,
    get_pretrained_url,
    is_pretrained_cfg,
    list_pretrained,
    list_pretrained_models_by_tag,
    list_pretrained_tags_by_model,
)
from tests.support.peers import open_clip

BUILT_IN = set(fastclip.list_models())
NOT_OPEN_CLIPS = [name for name in BUILT_IN if name.startswith("TIPS") or name.endswith("-naflex")]


def plain(cfg: dict) -> dict:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in cfg.items() if v is not None}


def test_all_that_is_known_of_weights_is_what_open_clip_knows():
    theirs = open_clip.pretrained
    for name, tag in list_pretrained():
        if name in NOT_OPEN_CLIPS:
            continue
        assert plain(get_pretrained_cfg(name, tag)) == plain(theirs.get_pretrained_cfg(name, tag))
        assert get_pretrained_url(name, tag) == theirs.get_pretrained_url(name, tag)


def test_weights_of_built_in_architectures_are_all_listed():
    expected = {(name, tag) for name, tag in open_clip.list_pretrained() if name in BUILT_IN}
    assert not {name for name, _ in expected} & set(NOT_OPEN_CLIPS)  # in open_clip 3.3.0
    expected |= {(name, "webli") for name in NOT_OPEN_CLIPS}
    assert set(list_pretrained()) == expected and len(list_pretrained()) == len(expected)
    assert list_pretrained(as_str=True) == [f"{name}:{tag}" for name, tag in list_pretrained()]


@pytest.mark.parametrize("tag", ["openai", "laion400m_e32", "LAION2B-s34B-b79K", "nonsense"])
def test_models_of_a_tag_are_open_clips(tag):
    expected = [name for name in open_clip.list_pretrained_models_by_tag(tag) if name in BUILT_IN]
    assert sorted(list_pretrained_models_by_tag(tag)) == sorted(expected)


@pytest.mark.parametrize("name", ["ViT-B-32", "RN50-quickgelu", "ViT-H-16", "nonsense"])
def test_tags_of_a_model_are_open_clips(name):
    assert sorted(list_pretrained_tags_by_model(name)) == sorted(
        open_clip.list_pretrained_tags_by_model(name)
    )


def test_unknown_weights_are_none():
    assert get_pretrained_cfg("ViT-B-32", "nonsense") == {} == get_pretrained_cfg("x", "openai")
    assert get_pretrained_url("ViT-B-32", "datacomp_xl_s13b_b90k") == ""
    assert is_pretrained_cfg("ViT-B/32", "laion2b-s34b-b79k")
    assert not is_pretrained_cfg("ViT-H-16", "openai")


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP2-naflex", "ViT-SO400M-16-SigLIP2-naflex"])
def test_weights_of_naflex_models_keep_the_ratio_of_their_images(name):
    cfg = get_pretrained_cfg(name, "webli")
    assert cfg["hf_hub"] == f"timm/{name}/" and cfg["url"] == ""
    assert (cfg["mean"], cfg["std"]) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (cfg["interpolation"], cfg["resize_mode"]) == ("bilinear", "naflex")


def test_weights_of_tips_are_googles_and_their_images_are_not_normalised():
    cfg = get_pretrained_cfg("TIPS-v2-L-14", "webli")
    assert cfg["hf_hub"] == "google/tipsv2-l14/" and cfg["url"] == ""
    assert (cfg["mean"], cfg["std"]) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert (cfg["interpolation"], cfg["resize_mode"]) == ("bilinear", "squash")
