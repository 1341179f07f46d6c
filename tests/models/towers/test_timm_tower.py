"""Towers of timm's are open_clip's, tensor by tensor, and answer what every image tower is asked."""

import sys
from dataclasses import replace

import pytest
import torch

from fastclip.models.build import build_model
from fastclip.models.open_clip_config import from_json
from fastclip.models.presets import PRESETS
from fastclip.models.towers.timm.config import TimmConfig
from tests.support.peers import timm
from tests.support.small_models import inputs
from tests.support.small_timm import FAMILIES, both, open_clips, with_small_trunks

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
        atol = 1e-5 * max(size, 1e-4 * largest)
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=atol, msg=name)
        assert size > 0 or "rel_pos" in name, name  # nothing is relative to a class token


def shapes(model) -> dict[str, tuple]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def of_few_blocks(name: str) -> dict:
    """What makes a trunk short and leaves every width."""
    trunk = TIMM[name].vision_cfg.timm_model_name
    if trunk.startswith("fastvit"):
        return dict(layers=(1,) * (5 if trunk[-1] in "34" else 4))
    if trunk.startswith(("convnext", "swin")):
        return dict(depths=(1, 1, 1, 1))
    return dict(depth=1)


@pytest.mark.parametrize("name", TIMM)
def test_tensors_of_every_model_are_open_clips_by_name_and_shape(name, monkeypatch):
    with_small_trunks(monkeypatch, **of_few_blocks(name))
    config = replace(TIMM[name], text_cfg=replace(TIMM[name].text_cfg, layers=1))
    with torch.device("meta"):
        theirs = open_clips(name, layers=1)
        ours = build_model(config)
    assert shapes(ours) == shapes(theirs)
