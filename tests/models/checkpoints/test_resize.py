from dataclasses import replace

import pytest
import torch

from fastclip.models.checkpoints.errors import CheckpointError
from fastclip.models.checkpoints.resize import resize_positions
from tests.support.peers import open_clip
from tests.support.small_models import SMALL, build


def resized(config, **changes):
    vision = {k: v for k, v in changes.items() if k == "image_size"}
    text = {k: v for k, v in changes.items() if k == "context_length"}
    return replace(
        config, vision_cfg=replace(config.vision_cfg, **vision),
        text_cfg=replace(config.text_cfg, **text),
    )  # fmt: skip


@pytest.mark.parametrize("image_size", [(64, 64), (16, 16), (40, 24)])
def test_grid_is_resized_as_open_clip_resizes_it(image_size):
    config = SMALL["vit"]
    tensors = build(config).state_dict()
    target = build(resized(config, image_size=image_size))
    ours = resize_positions(tensors, target)["visual.positional_embedding"]
    theirs = dict(tensors)
    open_clip.model.resize_pos_embed(theirs, target)
    assert ours.shape == target.visual.positional_embedding.shape
    assert torch.equal(ours, theirs["visual.positional_embedding"])
    assert torch.equal(ours[0], tensors["visual.positional_embedding"][0])


@pytest.mark.parametrize("length", [5, 20])
def test_text_is_resized_as_open_clip_resizes_it(length):
    config = SMALL["vit"]
    tensors = build(config).state_dict()
    target = build(resized(config, context_length=length))
    ours = resize_positions(tensors, target)["positional_embedding"]
    theirs = dict(tensors)
    open_clip.model.resize_text_pos_embed(theirs, target)
    assert torch.equal(ours, theirs["positional_embedding"])


def test_siglip_grid_has_no_token_before_it():
    config = SMALL["siglip"]
    tensors = build(config).state_dict()
    # A plane is the same plane at any size; a token treated as prefix would stand out of it.
    tensors["visual.trunk.pos_embed"] = torch.ones(1, 16, 128)
    target = build(resized(config, image_size=(64, 48)))
    ours = resize_positions(tensors, target)["visual.trunk.pos_embed"]
    torch.testing.assert_close(ours, torch.ones(1, 48, 128))


def test_positions_that_fit_are_left_alone():
    tensors = build(SMALL["vit"]).state_dict()
    after = resize_positions(tensors, build(SMALL["vit"]))
    assert all(after[name] is tensors[name] for name in tensors)


def test_another_width_or_an_oblong_grid_raise():
    tensors = build(SMALL["vit"]).state_dict()
    target = build(resized(SMALL["vit"], image_size=(64, 64)))
    tensors["visual.positional_embedding"] = torch.ones(17, 100)
    with pytest.raises(CheckpointError, match="width 100 in the weights and 128 in the model"):
        resize_positions(tensors, target)
    tensors["visual.positional_embedding"] = torch.ones(16, 128)
    with pytest.raises(CheckpointError, match="15 positions is not square"):
        resize_positions(tensors, target)
