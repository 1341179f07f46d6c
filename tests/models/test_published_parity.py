"""Published architectures have the features of open_clip and of transformers; `make test-runs`."""

import functools

import pytest
import torch

from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.factory import build_model, create_model
from fastclip.models.presets import PRESETS
from fastclip.models.towers.siglip.config import SIGLIP_SIZES
from tests.support.parity import assert_same_weights, features_of, largest_difference, load_strictly
from tests.support.peers import open_clip, timm
from tests.support.small_models import shake, with_layers

TOLERANCE = 1e-5  # in float32, of features about 1 after up to 24 layers
WHOLE = ("ViT-B-32-quickgelu",)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "ViT-L-14", "RN50", "ViT-B-16-SigLIP"])
def test_published_architectures_agree_with_open_clip_and_transformers(name, tmp_path, monkeypatch):
    """One whole; of the others every size but the depth."""
    torch.manual_seed(0)
    config = PRESETS[name] if name in WHOLE else with_layers(PRESETS[name], 2)
    if "SigLIP" in name:  # timm's name says the depth too
        monkeypatch.setitem(SIGLIP_SIZES, "base", SIGLIP_SIZES["base"] | {"layers": 2})
        made = functools.partial(timm.create_model, depth=2)
        monkeypatch.setattr(open_clip.timm_model.timm, "create_model", made)
    model = build_model(config, None).eval()
    if name == "RN50":
        shake(model)  # its blocks start as their shortcuts
    save_pretrained(model, tmp_path / "open_clip")
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'open_clip'}").eval()
    assert theirs.state_dict().keys() == model.state_dict().keys()
    images, tokens = published_inputs(PRESETS[name])
    assert largest_difference(
        model, images, tokens, theirs.encode_image, theirs.encode_text
    ) < TOLERANCE  # fmt: skip
    if name == "RN50":
        return  # transformers has no ResNet
    del theirs
    save_pretrained(model, tmp_path / "hf", layout="hf")
    theirs = load_strictly(tmp_path / "hf", name)
    assert largest_difference(model, images, tokens, *features_of(theirs)) < TOLERANCE
    del theirs
    for directory in ("open_clip", "hf"):
        again = create_model(f"local-dir:{tmp_path / directory}")
        assert_same_weights(again, model)


def published_inputs(config):
    torch.manual_seed(1)
    images = torch.randn(2, 3, *config.vision_cfg.image_size)
    tokens = torch.randint(2, 30_000, (2, config.text_cfg.context_length))
    tokens[0, 9], tokens[0, 10:], tokens[1, -1] = 49407, 0, 49407
    return images, tokens.clamp(max=config.text_cfg.vocab_size - 1)
