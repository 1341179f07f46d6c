"""Towers of timm's are open_clip's, tensor by tensor, and answer what image towers are asked."""

import copy
from dataclasses import replace

import pytest
import torch

from fastclip.models.build import build_model
from fastclip.models.precision import set_precision
from fastclip.models.presets import PRESETS
from fastclip.models.towers.timm.config import TimmConfig
from fastclip.models.unfilled import unfilled
from tests.support.small_models import inputs
from tests.support.small_timm import (
    FAMILIES,
    both,
    of_few_blocks,
    open_clips,
    small,
    with_small_trunks,
)

TIMM = {name: c for name, c in PRESETS.items() if isinstance(c.vision_cfg, TimmConfig)}


@pytest.fixture(params=FAMILIES, scope="module")
def pair(request):
    """open_clip's model and ours, of one family, in training mode."""
    with pytest.MonkeyPatch.context() as patch:
        with_small_trunks(patch, **FAMILIES[request.param])
        return both(request.param)


def gradients(model, images, tokens):
    torch.manual_seed(3)
    outputs = model(images, tokens)
    model.zero_grad()
    (outputs[0] @ outputs[1].T).square().sum().backward()
    return {name: p.grad for name, p in model.named_parameters()}, outputs


def test_features_and_gradients_in_training_are_open_clips(pair):
    theirs, ours = (model.train() for model in pair)
    batch = inputs(ours.config, 2)
    (expected, features), (found, own) = gradients(theirs, *batch), gradients(ours, *batch)
    for one, other in zip(own[:2], features[:2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert found.keys() == expected.keys()
    largest = max(g.abs().max().item() for g in expected.values() if g is not None)
    for name, gradient in expected.items():
        if gradient is None:  # of the scale
            assert found[name] is None
            continue
        size = gradient.abs().max().item()
        # Before a batch normalisation some gradients are zero but for rounding.
        atol = max(1e-5 * size, 1e-6 * largest)
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=atol, msg=name)
        assert size > 0 or "rel_pos" in name, name  # nothing is relative to a class token


def shapes(model) -> dict[str, tuple]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", TIMM)
def test_tensors_of_every_model_are_open_clips_by_name_and_shape(name, monkeypatch):
    with_small_trunks(monkeypatch, **of_few_blocks(name))
    config = replace(TIMM[name], text_cfg=replace(TIMM[name].text_cfg, layers=1))
    with unfilled():
        theirs = open_clips(name, layers=1)
        ours = build_model(config)
    assert shapes(ours) == shapes(theirs)


# What every image tower is asked


def tower_of(pair):
    model = pair[1].eval()
    return model.visual, inputs(model.config, 2)[0]


def test_tokens_are_one_per_place_of_the_grid_and_come_with_the_features(pair):
    tower, images = tower_of(pair)
    rows, columns = tower.grid_size
    tokens = tower.patch_tokens(images)
    assert tokens.shape[:2] == (2, rows * columns) and rows * columns > 1
    tower.output_tokens = True
    features, beside = tower(images)
    tower.output_tokens = False
    torch.testing.assert_close(features, tower(images))
    assert torch.equal(beside, tokens)
    with pytest.raises(ValueError, match=r"images must be \(B, 3"):
        tower(images[..., :-1])
    with pytest.raises(TypeError, match="standardize"):
        tower(images.to(torch.uint8))


def test_tokens_stand_row_by_row(pair):
    tower, images = tower_of(pair)
    rows, columns = tower.grid_size
    others = images.clone()
    height, width = (side // n for side, n in zip(tower.image_size, (rows, columns), strict=True))
    others[:, :, -height:, :width] += 3  # the first place of the last row
    change = (tower.patch_tokens(others) - tower.patch_tokens(images)).norm(dim=-1)
    change = change.unflatten(1, tower.grid_size)
    assert (change[:, -1, 0] > change[:, 0, -1]).all()


@pytest.mark.filterwarnings("ignore:Importing from timm.models.helpers")
def test_locking_is_open_clips(pair):
    _, ours = pair
    for unlocked in (0, 1, 2):
        for model in pair:
            model.requires_grad_(True)
            model.visual.lock(unlocked_groups=unlocked)
        trained = [
            {n for n, p in model.visual.named_parameters() if p.requires_grad} for model in pair
        ]
        assert trained[0] == trained[1]
    held = [id(p) for g in ours.visual.groups() for part in g for p in parameters_of(part)]
    assert sorted(held) == sorted(id(p) for p in ours.visual.parameters())
    with pytest.raises(ValueError, match="got 1000"):
        ours.visual.lock(unlocked_groups=1000)
    for model in pair:
        model.requires_grad_(True)


def parameters_of(part):
    return [part] if isinstance(part, torch.nn.Parameter) else list(part.parameters())


def test_intermediates_are_open_clips(pair):
    tower, images = tower_of(pair)
    theirs = pair[0].visual.eval()
    if not hasattr(tower.trunk, "forward_intermediates"):
        pytest.skip("timm has none of this trunk")
    for settings in (dict(indices=1), dict(indices=1, intermediates_only=True)):
        found, expected = (t.forward_intermediates(images, **settings) for t in (tower, theirs))
        assert found.keys() == expected.keys()
        for one, other in zip(
            found["image_intermediates"], expected["image_intermediates"], strict=True
        ):
            torch.testing.assert_close(one, other)
    features = tower.forward_intermediates(images)["image_features"]
    torch.testing.assert_close(features, tower(images))


@pytest.fixture(scope="module")
def mobile():
    """A small trunk of convolutions with batch normalisation, in training mode."""
    with pytest.MonkeyPatch.context() as patch:
        with_small_trunks(patch, **FAMILIES["MobileCLIP2-S0"])
        torch.manual_seed(0)
        return small("MobileCLIP2-S0").vision_cfg.build(8)


def test_checkpointing_changes_neither_gradients_nor_statistics(mobile):
    plain, again = copy.deepcopy(mobile), copy.deepcopy(mobile)
    again.set_grad_checkpointing()
    images = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    for tower in (plain, again):
        tower(images).square().sum().backward()
    for (name, one), other in zip(plain.named_buffers(), again.buffers(), strict=True):
        torch.testing.assert_close(other, one, msg=name)
    moved = [n for n, b in plain.named_buffers() if not torch.equal(b, mobile.get_buffer(n))]
    assert len(moved) > 10
    one, other = (
        tower.trunk.get_parameter("stem.0.conv_kxk.0.conv.weight").grad for tower in (plain, again)
    )
    torch.testing.assert_close(other, one)


def test_statistics_of_what_is_frozen_stand_still(mobile):
    tower = copy.deepcopy(mobile)
    tower.lock(unlocked_groups=1, freeze_bn_stats=True)
    tower.train()
    with torch.no_grad():
        tower(torch.randn(2, 3, 256, 256))
    moved = {n for n, b in tower.named_buffers() if not torch.equal(b, mobile.get_buffer(n))}
    assert moved and all(n.startswith("trunk.final_conv") for n in moved), moved


def test_a_tower_of_half_precision_is_in_one_dtype():
    with pytest.MonkeyPatch.context() as patch:
        with_small_trunks(patch, **FAMILIES["swin_base_patch4_window7_224"])
        model = set_precision(build_model(small("swin_base_patch4_window7_224")).eval(), "bf16")
    assert {p.dtype for p in model.visual.parameters()} == {torch.bfloat16}
    features = model.encode_image(torch.randn(1, 3, 224, 224))
    assert features.dtype == torch.bfloat16 and features.isfinite().all()
