from dataclasses import fields

import pytest

from fastclip.models.config import (
    ClipConfig,
    MultimodalConfig,
    ResNetConfig,
    SiglipVisionConfig,
    TextConfig,
    VisionConfig,
)

VISION = dict(image_size=(16, 24), patch_size=8, width=32, layers=2, head_width=16, channels=1)
TEXT = dict(context_length=9, vocab_size=11, width=24, heads=2, layers=1)


def test_vision_config_counts_patches_and_heads():
    config = VisionConfig(**VISION)
    assert (config.num_patches, config.heads) == (6, 2)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(patch_size=5), r"a multiple of 5 \(patch_size"),
        (dict(head_width=12), r"a multiple of 12 \(head_width\)"),
        (dict(layers=0), "layers"),
        (dict(image_size=(0, 24)), "image_size"),
        (dict(image_size=8, patch_size=16), "image_size"),
        (dict(pool_type="max"), "pool_type.*'max'"),
        (dict(activation="relu"), "activation.*'relu'"),
        (dict(patch_dropout=1.0), "patch_dropout"),
        (dict(channels=-1), "channels"),
    ],
)
def test_vision_config_rejects(change, message):
    with pytest.raises(ValueError, match=message):
        VisionConfig(**{**VISION, **change})


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(heads=5), r"a multiple of 5 \(heads\)"),
        (dict(vocab_size=0), "vocab_size"),
        (dict(pool_type="mean"), "pool_type"),
        (dict(proj_type="mlp"), "proj_type"),
        (dict(activation="relu"), "activation"),
    ],
)
def test_text_config_rejects(change, message):
    with pytest.raises(ValueError, match=message):
        TextConfig(**{**TEXT, **change})


def test_clip_config_rejects_an_empty_space():
    with pytest.raises(ValueError, match="embed_dim"):
        ClipConfig(0, VisionConfig(**VISION), TextConfig(**TEXT))


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(layers=(1, 2, 3)), "four"),
        (dict(layers=(1, 2, 3, 0)), r"layers\[3\] must be a whole number from 1"),
        (dict(image_size=50), "must be a multiple of 32"),
        (dict(head_width=48), r"a multiple of 48 \(head_width\)"),
        (dict(width=0), "width"),
    ],
)
def test_resnet_config_rejects(change, message):
    with pytest.raises(ValueError, match=message):
        ResNetConfig(**{**dict(image_size=64, layers=(1, 1, 1, 1), width=8), **change})


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(heads=5), r"a multiple of 5 \(heads\)"),
        (dict(image_size=4), "image_size"),
        (dict(activation="relu"), "activation"),
        (dict(patch_dropout=-0.1), "patch_dropout"),
    ],
)
def test_siglip_vision_config_rejects(change, message):
    values = dict(image_size=32, patch_size=8, width=32, layers=1, heads=2)
    with pytest.raises(ValueError, match=message):
        SiglipVisionConfig(**{**values, **change})


def test_towers_without_projection_must_have_the_width_of_the_space():
    siglip = SiglipVisionConfig(32, 8, width=32, layers=1, heads=2)
    with pytest.raises(ValueError, match=r"vision tower.*width 32 must be embed_dim 24"):
        ClipConfig(24, siglip, TextConfig(**TEXT))
    with pytest.raises(ValueError, match=r"text tower.*width 24 must be embed_dim 12"):
        ClipConfig(12, VisionConfig(**VISION), TextConfig(**TEXT, proj_type="none"))


def test_one_number_is_both_sides_of_a_image():
    assert VisionConfig(**{**VISION, "image_size": 16}).image_size == (16, 16)
    assert VisionConfig(**{**VISION, "image_size": [16, 24]}).grid_size == (2, 3)


@pytest.mark.parametrize("value", [10**9, 10**400, -1, float("nan"), float("inf"), "9", None, [1]])
@pytest.mark.parametrize("tower", ["vision", "resnet", "siglip", "text", "decoder", "pair"])
def test_no_number_is_out_of_bounds_or_of_another_type(tower, value):
    siglip = dict(image_size=16, patch_size=8, width=32, layers=2, heads=2)
    pair = dict(embed_dim=8, vision_cfg=VisionConfig(**VISION), text_cfg=TextConfig(**TEXT))
    kinds = {
        "vision": (VisionConfig, VISION),
        "resnet": (ResNetConfig, dict(image_size=64, layers=(1, 1, 1, 1), width=8)),
        "siglip": (SiglipVisionConfig, siglip),
        "text": (TextConfig, TEXT),
        "decoder": (MultimodalConfig, dict(context_length=9, width=24, heads=2, layers=1)),
        "pair": (ClipConfig, pair),
    }
    make, settings = kinds[tower]
    names = {field.name for field in fields(make)} - {"vision_cfg", "text_cfg"}
    may_be_none = {"ls_init_value", "init_logit_bias", "hf_tokenizer_name", "multimodal_cfg"}
    may_be_none |= {"vocab_size"} if tower == "decoder" else set()
    may_be_negative = {"ls_init_value", "init_logit_scale", "init_logit_bias"}
    for name in names:
        flag = isinstance(getattr(make(**settings), name), bool)
        if value is None and (flag or name in may_be_none):
            continue
        if (name, value) == ("hf_tokenizer_name", "9") or (value == -1 and name in may_be_negative):
            continue
        with pytest.raises((ValueError, TypeError)) as caught:
            make(**{**settings, name: value})
        assert len(str(caught.value)) < 300


def test_a_model_has_a_bound_on_all_its_parameters():
    text = TextConfig(77, 49408, width=2**14, heads=8, layers=256)
    with pytest.raises(ValueError, match="parameters, more than"):
        ClipConfig(8, VisionConfig(**VISION), text)
