"""What holds for the image towers of every kind."""

import copy

import pytest
import torch
from torch import nn

from fastclip.models.parts.patch_dropout import PatchDropout
from tests.support.small_models import SMALL, build, inputs, shake

KINDS = {
    name: SMALL[name]
    for name in ("vit", "avg", "clipa", "layer_scale", "resnet", "siglip", "naflex")
}


@pytest.fixture(params=KINDS)
def config(request):
    return KINDS[request.param]


def tower_of(config):
    torch.manual_seed(0)
    tower = config.vision_cfg.build(config.embed_dim)
    shake(tower)
    return tower.eval()


def trainable(tower: nn.Module) -> set[str]:
    return {name for name, p in tower.named_parameters() if p.requires_grad}


def test_groups_hold_every_parameter_once(config):
    tower = tower_of(config)
    held = [
        id(p)
        for group in tower.groups()
        for part in group
        for p in ([part] if isinstance(part, nn.Parameter) else part.parameters())
    ]
    assert sorted(held) == sorted(id(p) for p in tower.parameters())


def test_locking_leaves_the_last_groups_trainable(config):
    tower = tower_of(config)
    tower.lock()
    assert not trainable(tower)
    for unlocked in range(1, len(tower.groups()) + 1):
        before = trainable(tower)
        tower.lock(unlocked_groups=unlocked)
        assert before < trainable(tower)
    assert trainable(tower) == {name for name, _ in tower.named_parameters()}


@pytest.mark.parametrize("unlocked", [-1, 100])
def test_locking_more_groups_than_there_are_raises(config, unlocked):
    with pytest.raises(ValueError, match=f"got {unlocked}"):
        tower_of(config).lock(unlocked_groups=unlocked)


def test_gradient_reaches_every_parameter(config):
    tower = tower_of(config)
    images, _ = inputs(config)
    (tower(images) * torch.linspace(-1, 1, tower.output_dim)).sum().backward()
    assert not [n for n, p in tower.named_parameters() if p.grad is None or not p.grad.any()]


def test_checkpointing_changes_neither_features_nor_gradients_nor_statistics(config):
    images, _ = inputs(config)
    plain, checkpointed = tower_of(config).train(), tower_of(config).train()
    checkpointed.set_grad_checkpointing()
    for tower in (plain, checkpointed):
        tower(images).square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=0, atol=0, msg=name)
    for (name, one), other in zip(plain.named_buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(one, other), name


def test_wrong_images_raise_and_name_them(config):
    tower = tower_of(config)
    images, _ = inputs(config)
    with pytest.raises(ValueError, match=r"images must be \(B, 3, \w+, \w+\).* got"):
        tower(images[:, :, 1:])
    with pytest.raises(TypeError, match=r"floating-point, got torch\.uint8: standardize"):
        tower(images.to(torch.uint8))


def test_images_are_taken_in_any_floating_dtype(config):
    tower = tower_of(config)
    images, _ = inputs(config)
    torch.testing.assert_close(tower(images.double()), tower(images))
    assert tower.bfloat16()(images).dtype == torch.bfloat16


def test_square_side_has_openais_name():
    assert tower_of(SMALL["vit"]).input_resolution == 32
    assert SMALL["tall"].vision_cfg.build(48).input_resolution == (40, 24)


def test_frozen_statistics_stay_in_training_while_others_move():
    config = SMALL["resnet"]
    images, _ = inputs(config)
    tower = tower_of(config)
    tower.lock(unlocked_groups=2, freeze_bn_stats=True)
    before = copy.deepcopy(dict(tower.named_buffers()))
    tower.train()
    with torch.no_grad():
        tower(images)
    moved = {
        name.split(".")[0]
        for name, value in tower.named_buffers()
        if not torch.equal(value, before[name])
    }
    assert moved == {"layer4"}


def test_statistics_move_when_they_are_not_frozen():
    tower = tower_of(SMALL["resnet"])
    tower.lock()
    before = tower.bn1.running_mean.clone()
    tower.train()(inputs(SMALL["resnet"])[0])
    assert not torch.equal(before, tower.bn1.running_mean)


def test_patch_dropout_keeps_the_class_token_and_that_many_patches():
    torch.manual_seed(0)
    tokens = torch.arange(11.0).expand(4, 11)[..., None].clone()
    dropped = PatchDropout(0.7, num_prefix=1)(tokens)
    assert dropped.shape == (4, 4, 1)
    assert not dropped[:, 0].any()
    kept = dropped[:, 1:, 0]
    assert all(len(set(row.tolist())) == 3 for row in kept)
    assert len({tuple(sorted(row.tolist())) for row in kept}) > 1  # another choice per image


def test_patch_dropout_does_nothing_in_evaluation_or_at_zero():
    tokens = torch.randn(2, 5, 3)
    assert torch.equal(PatchDropout(0.5, 1).eval()(tokens), tokens)
    assert torch.equal(PatchDropout(0.0, 1)(tokens), tokens)


def test_patch_dropout_keeps_at_least_one_patch():
    assert PatchDropout(0.99, num_prefix=0)(torch.randn(2, 5, 3)).shape == (2, 1, 3)


@pytest.mark.parametrize("name", ["vit", "siglip"])
def test_towers_drop_patches_in_training_only(name):
    from dataclasses import replace

    config = SMALL[name]
    config = replace(config, vision_cfg=replace(config.vision_cfg, patch_dropout=0.5))
    tower = tower_of(config)
    images, _ = inputs(config)
    assert torch.equal(tower(images), tower(images))
    tower.train()
    assert not torch.allclose(tower(images), tower(images))


def test_pixels_beyond_the_last_whole_patch_are_unread_in_siglip():
    from dataclasses import replace

    config = replace(SMALL["siglip"], vision_cfg=replace(SMALL["siglip"].vision_cfg, image_size=35))
    model = build(config)
    images, _ = inputs(config)
    cut = images.clone()
    cut[:, :, 32:], cut[:, :, :, 32:] = 7, 7
    assert torch.equal(model.encode_image(images), model.encode_image(cut))


# Patches


def test_patch_tokens_are_one_per_place_of_the_grid_and_carry_gradients(config):
    tower = tower_of(config)
    images, _ = inputs(config)
    images.requires_grad_()
    tokens = tower.patch_tokens(images)
    rows, columns = tower.grid_size
    assert tokens.shape[:2] == (len(images), rows * columns)
    tokens.square().mean().backward()
    assert images.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="images must be"):
        tower.patch_tokens(images[..., :-1])


def test_patch_tokens_are_those_that_come_with_the_features(config):
    tower = tower_of(config)
    images, _ = inputs(config)
    if hasattr(tower, "attnpool"):  # a ResNet returns none
        features = tower.attnpool(tower.patch_tokens(images).mT.unflatten(2, tower.grid_size))
        assert torch.equal(features, tower(images))
        return
    tower.output_tokens = True
    features, tokens = tower(images)
    assert torch.equal(tower.patch_tokens(images), tokens)


@pytest.mark.parametrize("name", ["tall", "siglip"])
def test_patch_tokens_stand_row_by_row(name):
    tower = tower_of(SMALL[name])
    images, _ = inputs(SMALL[name])
    others = images.clone()
    others[:, :, 8:16, :8] += 1  # the first patch of the second row
    change = (tower.patch_tokens(others) - tower.patch_tokens(images)).norm(dim=-1)
    assert (change.argmax(1) == tower.grid_size[1]).all()


def test_patch_tokens_of_a_layer_are_its_intermediates(config):
    tower = tower_of(config)
    images, _ = inputs(config)
    settings = dict(intermediates_only=True, output_fmt="NLC")
    layers = tower.forward_intermediates(images, **settings)["image_intermediates"]
    for i, expected in enumerate(layers):
        assert torch.equal(tower.patch_tokens(images, layer=i, norm=False), expected)
    assert torch.equal(tower.patch_tokens(images, norm=False), layers[-1])
    assert torch.equal(tower.patch_tokens(images, layer=-1), tower.patch_tokens(images))
    with pytest.raises(ValueError, match=rf"layers from {-len(layers)} to {len(layers) - 1}"):
        tower.patch_tokens(images, layer=len(layers))


def test_patch_tokens_are_normalised_as_the_readout_has_them_or_as_it_is_said(config):
    tower = tower_of(config)
    images, _ = inputs(config)
    if hasattr(tower, "attnpool"):
        with pytest.raises(ValueError, match="norm must be False: a ResNet has no last norm"):
            tower.patch_tokens(images, norm=True)
        return
    settings = dict(intermediates_only=True, output_fmt="NLC", normalize_intermediates=True)
    normed = tower.forward_intermediates(images, **settings)["image_intermediates"]
    for layer in (0, -2):
        found = tower.patch_tokens(images, layer=layer, norm=True)
        torch.testing.assert_close(found, normed[layer])
    is_normed = not getattr(tower, "final_ln_after_pool", False)
    for layer in (None, -2):
        expected = tower.patch_tokens(images, layer, norm=is_normed)
        assert torch.equal(tower.patch_tokens(images, layer), expected)
        assert not torch.allclose(tower.patch_tokens(images, layer, norm=not is_normed), expected)


@pytest.mark.parametrize("name", ["tall", "siglip", "resnet"])
def test_positions_are_rows_and_columns(name):
    tower = tower_of(SMALL[name])
    images, _ = inputs(SMALL[name])
    tokens, positions = tower.patch_tokens(images, layer=0, positions=True)
    assert positions.dtype == torch.int64 and positions.shape == (tokens.shape[1], 2)
    rows, columns = (positions.amax(0) + 1).tolist()
    assert (rows, columns) == ((16, 16) if name == "resnet" else tower.grid_size)
    row, column = rows - 2, 1
    height, width = (side // n for side, n in zip(tower.image_size, (rows, columns), strict=True))
    others = images.clone()
    top, left = row * height, column * width
    others[:, :, top : top + height, left : left + width] += 1
    change = (tower.patch_tokens(others, layer=0) - tokens).norm(dim=-1).mean(0)
    reach = 1 if name == "resnet" else 0  # convolutions see what is beside it
    assert (positions[change.argmax()] - torch.tensor([row, column])).abs().max() <= reach


def test_positions_and_maps_are_those_of_images_of_another_size():
    tower = tower_of(SMALL["vit"])
    tower.positional_embedding = nn.Parameter(torch.randn(1 + 24, 128))
    images = torch.randn(2, 3, 32, 48)
    _, positions = tower.patch_tokens(images, positions=True)
    assert positions[[0, 5, 6, -1]].tolist() == [[0, 0], [0, 5], [1, 0], [3, 5]]
    maps = tower.forward_intermediates(images)["image_intermediates"]
    assert [x.shape for x in maps] == 3 * [(2, 128, 4, 6)]
