import pytest

from fastclip.models.config import ClipConfig, TextConfig, VisionConfig

VISION = dict(image_size=(16, 24), patch_size=8, width=32, layers=2, head_width=16, channels=1)
TEXT = dict(context_length=9, vocab_size=11, width=24, heads=2, layers=1)


def test_config_survives_a_round_trip_through_plain_values():
    config = ClipConfig(12, VisionConfig(**VISION), TextConfig(**TEXT))
    assert ClipConfig.from_dict(config.to_dict()) == config
    assert ClipConfig.from_dict({**config.to_dict(), "embed_dim": 13}) != config


def test_vision_config_counts_patches_and_heads():
    config = VisionConfig(**VISION)
    assert (config.num_patches, config.heads) == (6, 2)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(patch_size=5), "patch_size 5"),
        (dict(head_width=12), "head_width 12"),
        (dict(layers=0), "layers"),
        (dict(image_size=(0, 24)), "height"),
        (dict(channels=-1), "channels"),
    ],
)
def test_vision_config_rejects(change, message):
    with pytest.raises(ValueError, match=message):
        VisionConfig(**{**VISION, **change})


@pytest.mark.parametrize(
    "change, message", [(dict(heads=5), "heads 5"), (dict(vocab_size=0), "vocab_size")]
)
def test_text_config_rejects(change, message):
    with pytest.raises(ValueError, match=message):
        TextConfig(**{**TEXT, **change})


def test_clip_config_rejects_an_empty_space():
    with pytest.raises(ValueError, match="embed_dim"):
        ClipConfig(0, VisionConfig(**VISION), TextConfig(**TEXT))
