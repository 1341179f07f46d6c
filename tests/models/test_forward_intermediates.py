"""What layers of the towers return, as open_clip 3.3.0 returns it from the same weights."""

import inspect
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fastclip.models.lone_tower import keep_only
from fastclip.models.openai import LogitsCLIP
from fastclip.models.parts.layers import feature_take_indices
from fastclip.models.two_tower import TwoTower
from tests.models.test_output_tokens import peer_of
from tests.support.peers import open_clip, timm
from tests.support.small_models import SMALL, build, inputs

TOLERANCE = dict(rtol=1e-5, atol=3e-6)
WITHOUT_GRADIENT = "attnpool.k_proj.bias"  # what all keys have in common changes no softmax
BOTH = dict(output_logits=True, output_logit_scale_bias=True)
CASES = [
    ("vit", BOTH),
    ("quick_gelu", dict(image_indices=2, text_indices=1, normalize=False, **BOTH)),
    ("tall", dict(image_indices=[2, 0], text_indices=[-1], image_output_extra_tokens=True)),
    ("clipa", dict(image_indices=(-2,), normalize_intermediates=True, image_output_fmt="NLC")),
    ("avg", dict(image_indices=[0], text_indices=[0], stop_early=True)),
    ("layer_scale", dict(image_indices=[-1, 1], intermediates_only=True, stop_early=True,
                         text_indices=[0], output_logit_scale_bias=True)),
    ("eos", dict(image_output_fmt="NLC", image_output_extra_tokens=True)),
    ("custom_text", dict(text_indices=[0], normalize_intermediates=True, stop_early=True, **BOTH)),
    ("first", dict(text_output_extra_tokens=True, image_indices=1)),
    ("no_projection", dict(text_indices=2, image_indices=3)),
    ("resnet", dict(image_output_extra_tokens=True, image_indices=2)),
    ("resnet", dict(image_indices=[-3, 0], intermediates_only=True)),
]  # fmt: skip


def assert_near(found, expected, name):
    """Every entry, or each of a list, to 1e-5 of the largest."""
    if isinstance(expected, list):
        assert len(found) == len(expected), name
        for one, other in zip(found, expected, strict=True):
            assert_near(one, other, name)
        return
    assert found.shape == expected.shape, name
    off = (found - expected).abs().max() / expected.abs().max()
    assert off < 1e-5, (name, off)


@pytest.mark.parametrize("name, settings", CASES)
def test_outputs_are_open_clips(name, settings):
    model = build(SMALL[name])
    images, tokens = inputs(SMALL[name])
    found = model.forward_intermediates(images, tokens, **settings)
    expected = peer_of(model, SMALL[name]).forward_intermediates(images, tokens, **settings)
    assert found.keys() == expected.keys()
    for key in expected:
        assert_near(found[key], expected[key], key)


@pytest.mark.parametrize("name", ["vit", "custom_text", "resnet"])
def test_gradients_of_intermediates_are_open_clips(name):
    model = build(SMALL[name])
    theirs = peer_of(model, SMALL[name])
    images, tokens = inputs(SMALL[name])
    for each in (model, theirs):
        found = each.forward_intermediates(images, tokens)
        layers = [*found["image_intermediates"], *found["text_intermediates"]]
        read = [*layers, found["image_features"], found["text_features"]]
        sum((x * torch.linspace(-1, 1, x.numel()).view_as(x)).sum() for x in read).backward()
    expected = dict(theirs.named_parameters())
    for key, value in model.named_parameters():
        if expected[key].grad is not None and not key.endswith(WITHOUT_GRADIENT):
            assert_near(value.grad, expected[key].grad, key)


def test_siglips_are_those_of_timm_through_open_clip():
    config = SMALL["siglip"]
    model = build(config)
    trunk = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=128, depth=2, num_heads=4, num_classes=0,
        class_token=False, global_pool="map", act_layer="gelu_tanh",
    ).eval()  # fmt: skip
    trunk.load_state_dict(model.visual.trunk.state_dict(), strict=True)
    theirs = SimpleNamespace(trunk=trunk, head=nn.Identity())
    images, tokens = inputs(config)
    for settings in (
        {},
        dict(indices=1, normalize_intermediates=True, output_fmt="NLC", output_extra_tokens=True),
        dict(indices=[0], stop_early=True),
        dict(indices=[1, -2], intermediates_only=True),
    ):
        found = model.visual.forward_intermediates(images, **settings)
        expected = open_clip.timm_model.TimmModel.forward_intermediates(theirs, images, **settings)
        assert found.keys() == expected.keys()
        for key in expected:
            assert_near(found[key], expected[key], key)
    found = model.forward_intermediates(images, tokens, **BOTH)
    torch.testing.assert_close(found["image_logits"], model.get_logits(images, tokens)[0])
    assert found["logit_bias"] is model.logit_bias


@pytest.mark.parametrize("name", ["vit", "clipa", "siglip", "resnet"])
def test_features_are_the_towers_own(name):
    model = build(SMALL[name])
    images, tokens = inputs(SMALL[name])
    found = model.forward_intermediates(images, tokens, image_indices=[0], normalize=False)
    torch.testing.assert_close(found["image_features"], model.encode_image(images), **TOLERANCE)
    torch.testing.assert_close(found["text_features"], model.encode_text(tokens), **TOLERANCE)


def test_a_model_in_openais_layout_returns_the_same():
    config = SMALL["quick_gelu"]
    built = build(config)
    loaded = LogitsCLIP(config).eval()
    loaded.load_state_dict(built.state_dict())
    images, tokens = inputs(config)
    for settings in (BOTH, dict(image_indices=[0], text_indices=[0], stop_early=True)):
        found = loaded.forward_intermediates(images, tokens, **settings)
        torch.testing.assert_close(
            found, built.forward_intermediates(images, tokens, **settings), **TOLERANCE
        )
    x = torch.randn(17, 3, 128)
    out, layers = loaded.visual.transformer.forward_intermediates(x, indices=[-1])
    torch.testing.assert_close([out, *layers], 2 * [loaded.visual.transformer(x)])


def test_transformers_are_called_as_open_clips():
    model = build(SMALL["vit"])
    theirs = peer_of(model, SMALL["vit"])
    x = torch.randn(3, 9, 128)
    for settings in ({}, dict(indices=1), dict(indices=[0], stop_early=True)):
        torch.testing.assert_close(
            model.transformer.forward_intermediates(x, model.attn_mask, **settings),
            theirs.transformer.forward_intermediates(x, theirs.attn_mask, **settings),
            **TOLERANCE,
        )


@pytest.mark.parametrize("name", ["custom_text", "vit"])
def test_texts_may_be_shorter_than_the_context_and_another_mask_is_obeyed(name):
    model = build(SMALL[name])
    tower = getattr(model, "text", model)
    tokens = torch.tensor([[7, 8, 63], [9, 63, 0]])
    found = model.forward_intermediates(text=tokens, normalize=False)
    assert [x.shape for x in found["text_intermediates"]] == 2 * [(2, 3, 128)]
    torch.testing.assert_close(found["text_features"], model.encode_text(tokens), **TOLERANCE)
    tower.attn_mask = torch.zeros(9, 9)
    seen = model.forward_intermediates(text=tokens, normalize=False)
    torch.testing.assert_close(seen["text_features"], model.encode_text(tokens), **TOLERANCE)
    assert not torch.allclose(seen["text_intermediates"][0], found["text_intermediates"][0])


@pytest.mark.parametrize("name", ["vit", "siglip"])
def test_layers_that_are_left_out_do_not_run(name):
    model = build(SMALL[name])
    blocks = getattr(getattr(model.visual, "trunk", model.visual), "blocks", None)
    blocks = model.visual.transformer.resblocks if blocks is None else blocks
    ran = []
    blocks[-1].register_forward_hook(lambda *a: ran.append(1))
    images, _ = inputs(SMALL[name])
    model.visual.patch_tokens(images, layer=-2)
    settings = dict(image_indices=[0], intermediates_only=True)
    model.forward_intermediates(images, stop_early=True, **settings)
    assert ran == []
    model.forward_intermediates(images, **settings)
    assert ran == [1]


@pytest.mark.parametrize("name", ["vit", "siglip"])
def test_checkpointed_towers_return_the_same_and_run_again(name):
    model = build(SMALL[name]).train()
    images, tokens = inputs(SMALL[name])
    expected = model.forward_intermediates(images, tokens)
    model.set_grad_checkpointing()
    ran = []
    for module in model.visual.modules():
        if isinstance(module, nn.GELU):
            module.register_forward_hook(lambda *a: ran.append(1))
    found = model.forward_intermediates(images, tokens)
    assert torch.equal(found["image_features"], expected["image_features"])
    once = len(ran)
    found["image_intermediates"][-1].sum().backward()
    assert len(ran) > once > 0


@pytest.mark.parametrize("cls", ["CLIP", "CustomTextCLIP", "VisionTransformer", "TextTransformer"])
def test_arguments_are_open_clips_in_their_order(cls):
    from fastclip.compat import open_clip as ours

    place = "model" if "CLIP" in cls else "transformer"
    own, their = (
        list(
            inspect.signature(
                getattr(getattr(package, place), cls).forward_intermediates
            ).parameters
        )
        for package in (ours, open_clip)
    )
    assert own == their


@pytest.mark.parametrize("indices", [None, 1, 5, [0], (-1, 2), [3, 3, 0], range(2)])
def test_numbers_of_layers_are_open_clips(indices):
    from fastclip.compat.open_clip.utils import feature_take_indices as ours

    assert ours is feature_take_indices
    assert ours(5, indices) == open_clip.utils.feature_take_indices(5, indices)
    assert ours(5, indices, True) == open_clip.utils.feature_take_indices(5, indices, True)


@pytest.mark.parametrize("indices", [0, 6, -1, [5], [-6, 0], []])
def test_layers_that_are_not_there_are_refused(indices):
    with pytest.raises(ValueError, match=r"indices must be .*got"):
        feature_take_indices(5, indices)


IMAGES, TOKENS = inputs(SMALL["vit"])
REFUSED = [
    ("vit", dict(image=IMAGES, image_indices=[3]), "layers from -3 to 2"),
    ("vit", dict(image=IMAGES, image_output_fmt="NHWC"), "output_fmt must be one of"),
    ("vit", dict(text=TOKENS, text_output_fmt="NCHW"), "must be 'NLC', got 'NCHW'"),
    ("vit", dict(image=IMAGES, output_logits=True), "output_logits needs image and text"),
    ("vit", dict(image=IMAGES, text=TOKENS, output_logits=True, intermediates_only=True),
     "intermediates_only=False"),
    ("vit", dict(image=IMAGES[..., 1:]), "images must be"),
    ("vit", dict(text=TOKENS[0]), "tokens must be"),
    ("resnet", dict(image=inputs(SMALL["resnet"])[0], normalize_intermediates=True),
     "no last normalisation"),
    ("resnet", dict(image=inputs(SMALL["resnet"])[0], image_indices=[1], stop_early=True),
     "stop_early needs intermediates_only"),
]  # fmt: skip


@pytest.mark.parametrize("name, arguments, message", REFUSED)
def test_what_cannot_be_obeyed_is_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(SMALL[name]).forward_intermediates(**arguments)


def test_patches_that_were_dropped_make_no_map():
    config = SMALL["vit"]
    config = replace(config, vision_cfg=replace(config.vision_cfg, patch_dropout=0.5))
    visual = build(config).visual.train()
    with pytest.raises(ValueError, match=r"8 tokens cannot be placed on the 4 x 4 .*eval\(\)"):
        visual.forward_intermediates(IMAGES)
    with pytest.raises(ValueError, match="patch dropout"):
        visual.patch_tokens(IMAGES, positions=True)
    found = visual.forward_intermediates(IMAGES, output_fmt="NLC")["image_intermediates"]
    assert [x.shape[1] for x in found] == 3 * [8]


def test_towers_that_do_not_tell_are_refused_by_name():
    pair = TwoTower(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), nn.Embedding(5, 4))
    with pytest.raises(TypeError, match="Sequential has no forward_intermediates"):
        pair.forward_intermediates(torch.randn(1, 3, 2, 2))
    with pytest.raises(TypeError, match="Embedding has no forward_intermediates"):
        pair.forward_intermediates(text=torch.ones(1, dtype=torch.int64))
    for tower, arguments in (("text", (IMAGES,)), ("image", (None, TOKENS))):
        model = build(SMALL["vit"])
        keep_only(model, tower)
        left_out = "image" if tower == "text" else "text"
        with pytest.raises(ValueError, match=f"the {left_out} tower of this model was left out"):
            model.forward_intermediates(*arguments)


def test_a_transformer_that_took_the_place_is_asked_or_refused():
    model = build(SMALL["vit"])
    theirs = peer_of(model, SMALL["vit"])
    expected = model.forward_intermediates(IMAGES, TOKENS)
    model.visual.transformer = theirs.visual.transformer
    model.transformer = theirs.transformer
    found = model.forward_intermediates(IMAGES, TOKENS)
    torch.testing.assert_close(found, expected, **TOLERANCE)
    model.visual.transformer = nn.Identity()
    with pytest.raises(TypeError, match=r"transformer \(Identity\) has another forward"):
        model.forward_intermediates(IMAGES)
    model = build(SMALL["vit"])
    model.visual.transformer.forward = lambda x, **settings: x
    with pytest.raises(TypeError, match=r"transformer \(Transformer\) has another forward"):
        model.forward_intermediates(IMAGES)
