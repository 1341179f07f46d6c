"""Features and tokens together, as open_clip returns them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fastclip.losses.clip import ClipLoss
from fastclip.models.clip import CLIP
from fastclip.models.open_clip_config import from_json, to_json
from tests.support.peers import open_clip
from tests.support.small_models import SMALL, build, inputs

TOLERANCE = dict(rtol=1e-5, atol=2e-6)


def peer_of(model, config):
    values = to_json(config)
    cls = open_clip.CustomTextCLIP if values.pop("custom_text", False) else open_clip.CLIP
    theirs = cls(**values).eval()
    theirs.load_state_dict(model.state_dict(), strict=True)
    return theirs


@pytest.mark.parametrize("name", ["vit", "tall", "avg", "clipa", "layer_scale"])
def test_features_and_patches_are_open_clips(name):
    model = build(SMALL[name])
    theirs = peer_of(model, SMALL[name])
    images, _ = inputs(SMALL[name], batch_size=2)
    features = model.visual(images)
    model.visual.output_tokens = theirs.visual.output_tokens = True
    with torch.no_grad():
        pooled, tokens = model.visual(images)
        expected_pooled, expected = theirs.visual(images)
    assert tokens.shape == expected.shape == (2, 15 if name == "tall" else 16, 128)
    torch.testing.assert_close(tokens, expected, **TOLERANCE)
    torch.testing.assert_close(pooled, expected_pooled, **TOLERANCE)
    torch.testing.assert_close(pooled, features, **TOLERANCE)


@pytest.mark.parametrize("pool", [{}, {"pool_type": "last"}, {"pool_type": "eos", "eos_id": 63}])
def test_features_and_tokens_of_texts_are_open_clips(pool):
    config = SMALL["custom_text"]
    config = replace(config, text_cfg=replace(config.text_cfg, **pool))
    model = build(config)
    theirs = peer_of(model, config)
    _, tokens = inputs(config)
    features = model.text(tokens)
    model.text.output_tokens = theirs.text.output_tokens = True
    with torch.no_grad():
        found, expected = model.encode_text(tokens), theirs.encode_text(tokens)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE)
    torch.testing.assert_close(found[0], features, **TOLERANCE)


def test_siglips_tokens_are_those_that_timm_reads_out():
    from tests.support.peers import timm

    config = SMALL["siglip"]
    model = build(config)
    theirs = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=128, depth=2, num_heads=4, num_classes=0,
        class_token=False, global_pool="map", act_layer="gelu_tanh",
    ).eval()  # fmt: skip
    theirs.load_state_dict(model.visual.trunk.state_dict(), strict=True)
    images, _ = inputs(config, batch_size=2)
    model.visual.output_tokens = True
    with torch.no_grad():
        pooled, tokens = model.visual(images)
        torch.testing.assert_close(tokens, theirs.forward_features(images), **TOLERANCE)
        torch.testing.assert_close(pooled, theirs(images), **TOLERANCE)


def test_a_resnet_has_no_tokens_and_says_so():
    model = build(SMALL["resnet"])
    model.visual.output_tokens = True
    with pytest.raises(ValueError, match="output_tokens must be False"):
        model.visual(inputs(SMALL["resnet"])[0])


@pytest.mark.parametrize("name", ["vit", "siglip"])
def test_a_configuration_is_obeyed_in_both_towers(name):
    config = SMALL[name]
    config = replace(
        config,
        vision_cfg=replace(config.vision_cfg, output_tokens=True),
        text_cfg=replace(config.text_cfg, output_tokens=True),
    )
    assert from_json(to_json(config)) == config
    model = build(from_json(to_json(config)))
    images, tokens = inputs(config)
    assert [x.shape[1:] for x in model.encode_image(images)] == [
        (config.embed_dim,), (16, 128)
    ]  # fmt: skip
    assert [x.shape[1:] for x in model.encode_text(tokens)] == [(config.embed_dim,), (9, 128)]


def test_a_configuration_that_timm_has_a_name_for_is_obeyed_and_a_resnets_is_refused():
    from fastclip.models.presets import PRESETS

    values = to_json(PRESETS["ViT-B-16-SigLIP"])
    values["vision_cfg"]["output_tokens"] = True
    config = from_json(values)
    assert config.vision_cfg.output_tokens
    assert to_json(config)["vision_cfg"]["output_tokens"] is True
    values = to_json(SMALL["resnet"])
    values["vision_cfg"]["output_tokens"] = True
    with pytest.raises(ValueError, match="output_tokens"):
        from_json(values)


def test_features_are_normalised_and_a_loss_gets_them_alone():
    config = SMALL["vit"]
    model = build(config)
    images, tokens = inputs(config)
    expected, logits = model(images, tokens), model.get_logits(images, tokens)
    model.visual.output_tokens = model.output_tokens = True
    found = model(images, tokens)
    ClipLoss()(*found).backward()
    torch.testing.assert_close(found, expected, **TOLERANCE)
    torch.testing.assert_close(model.get_logits(images, tokens), logits, **TOLERANCE)
    unit, patches = model.encode_image(images, normalize=True)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(3))
    assert torch.equal(patches, model.encode_image(images)[1])


@pytest.mark.parametrize("name", ["vit", "avg", "quick_gelu"])
def test_a_tower_without_head_returns_features_of_its_width_as_open_clips(name):
    model = build(SMALL[name])
    theirs = peer_of(model, SMALL[name])
    images, tokens = inputs(SMALL[name])
    projections = model.visual.proj, model.text_projection
    projected = model.encode_image(images), model.encode_text(tokens)
    for each in (model, theirs):
        each.visual.proj = each.text_projection = None
    for encode, batch, projection, whole in zip(
        ("encode_image", "encode_text"), (images, tokens), projections, projected, strict=True
    ):
        features = getattr(model, encode)(batch)
        assert features.shape == (3, 128)
        torch.testing.assert_close(features, getattr(theirs, encode)(batch), **TOLERANCE)
        torch.testing.assert_close(features @ projection, whole, **TOLERANCE)
    model.lock_image_tower(1)
    assert {n for n, p in model.visual.named_parameters() if p.requires_grad} >= {
        "ln_post.weight", "transformer.resblocks.2.ln_1.weight"
    }  # fmt: skip


def test_a_projection_of_another_kind_is_called():
    model = CLIP(SMALL["vit"]).eval()
    _, tokens = inputs(SMALL["vit"])
    del model.text_projection
    model.text_projection = nn.Sequential(nn.Linear(128, 5), nn.ReLU())
    assert model.encode_text(tokens).shape == (3, 5)
