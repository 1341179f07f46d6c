import pytest

from fastclip.models.config import (
    ClipConfig,
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
        (dict(patch_size=5), "patch_size 5"),
        (dict(head_width=12), "head_width 12"),
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
        (dict(heads=5), "heads 5"),
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
        (dict(layers=(1, 2, 3, 0)), "four"),
        (dict(image_size=50), "multiple of patch_size 32"),
        (dict(head_width=48), "head_width 48"),
        (dict(width=0), "width"),
    ],
)
def test_resnet_config_rejects(change, message):
    with pytest.raises(ValueError, match=message):
        ResNetConfig(**{**dict(image_size=64, layers=(1, 1, 1, 1), width=8), **change})


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(heads=5), "heads 5"),
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


def test_one_number_is_both_sides_of_a_picture():
    assert VisionConfig(**{**VISION, "image_size": 16}).image_size == (16, 16)
    assert VisionConfig(**{**VISION, "image_size": [16, 24]}).grid_size == (2, 3)
