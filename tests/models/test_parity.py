"""The same weights give the same features as in open_clip and in transformers."""

import copy
from dataclasses import replace

import pytest
import torch

from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.factory import build_model, create_model
from fastclip.models.open_clip_config import to_json
from tests.support.parity import assert_same_weights, features_of, largest_difference, load_strictly
from tests.support.peers import open_clip
from tests.support.small_models import SMALL, build, inputs

EXACT = 1e-12  # in float64, where the same function gives the same to rounding on every CPU
# SigLIP's initial scale is not in open_clip's configuration, and its 3.3.0 has no NaFlex.
PORTABLE = {name: config for name, config in SMALL.items() if name not in ("siglip", "naflex")}


def difference_in_float64(model, images, tokens, theirs, encoders):
    """Of copies: the models stay as they are."""
    ours, theirs = copy.deepcopy(model).double(), copy.deepcopy(theirs).double()
    return largest_difference(ours, images.double(), tokens, *encoders(theirs))


@pytest.mark.parametrize("config", PORTABLE.values(), ids=PORTABLE)
def test_small_models_of_every_kind_agree_with_open_clip(config):
    model = build(config)
    values = to_json(config)
    cls = open_clip.CustomTextCLIP if values.pop("custom_text", False) else open_clip.CLIP
    theirs = cls(**values).eval()
    theirs.load_state_dict(model.state_dict(), strict=True)
    images, tokens = inputs(config)
    for ours, other in zip(model(images, tokens), theirs(images, tokens), strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-5)
    assert difference_in_float64(model, images, tokens, theirs, encoders_of) < EXACT


@pytest.mark.parametrize("config", PORTABLE.values(), ids=PORTABLE)
def test_gradients_of_small_models_agree_with_open_clip(config):
    model = build(config).double()
    values = to_json(config)
    cls = open_clip.CustomTextCLIP if values.pop("custom_text", False) else open_clip.CLIP
    theirs = cls(**values).eval().double()
    theirs.load_state_dict(model.state_dict(), strict=True)
    images, tokens = inputs(config)
    for each in (model, theirs):
        image_features, text_features = each(images.double(), tokens)[:2]
        (image_features * text_features.roll(1, 0)).sum().backward()
    theirs_by_name = dict(theirs.named_parameters())
    for name, parameter in model.named_parameters():
        if "logit" not in name:
            torch.testing.assert_close(
                parameter.grad, theirs_by_name[name].grad, rtol=1e-9, atol=1e-11, msg=name
            )


@pytest.mark.parametrize("name", ["vit", "quick_gelu", "wide_mlp", "custom_text", "siglip"])
def test_small_models_survive_transformers_own_files(name, tmp_path):
    config = SMALL[name]
    if name == "custom_text":
        config = replace(config, init_logit_bias=None)
    model = build(config)
    save_pretrained(model, tmp_path / "ours", layout="hf")
    theirs = load_strictly(tmp_path / "ours", "SigLIP" if name == "siglip" else name)
    images, tokens = inputs(config)
    assert difference_in_float64(model, images, tokens, theirs, features_of) < EXACT
    theirs.save_pretrained(tmp_path / "theirs")
    again = create_model(str(tmp_path / "theirs"))
    if name == "custom_text":
        again = build_model(config, None).eval()
        from fastclip.models.checkpoints.load import load_checkpoint

        load_checkpoint(again, tmp_path / "theirs")
    assert_same_weights(again, model)


def test_text_features_at_mistaken_and_right_end_token_ids_agree_with_transformers(tmp_path):
    import json

    model = build(SMALL["vit"])
    save_pretrained(model, tmp_path / "hf", layout="hf")
    path = tmp_path / "hf" / "config.json"
    for eos in (2, 63, 7):
        values = json.loads(path.read_text())
        values["text_config"] |= {"eos_token_id": eos}
        path.write_text(json.dumps(values))
        theirs, ours = load_strictly(path.parent, "vit"), create_model(str(path.parent)).eval()
        tokens = torch.tensor([[62, 9, 7, 8, 63, 7, 0, 0, 0]])
        _, encode_text = features_of(theirs)
        with torch.no_grad():
            torch.testing.assert_close(ours.encode_text(tokens), encode_text(tokens))


def encoders_of(theirs):
    return theirs.encode_image, theirs.encode_text
