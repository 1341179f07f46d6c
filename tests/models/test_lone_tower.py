"""A model that is opened with one of its towers: the same features, without the other's memory."""

from dataclasses import replace

import pytest
import torch

from fastclip.data.preprocess import PreprocessCfg
from fastclip.models.build import build_model
from fastclip.models.checkpoints.write import save_pretrained
from fastclip.models.inference import open_model
from fastclip.models.padding import without_padding
from tests.support.ready import TINY


@pytest.fixture(scope="module", params=[False, True], ids=["flat", "text apart"])
def opened(request, tmp_path_factory):
    """A directory, and the model in it."""
    path = tmp_path_factory.mktemp("lone") / "model"
    torch.manual_seed(0)
    model = build_model(replace(TINY, custom_text=request.param))
    model.visual.preprocess_cfg = PreprocessCfg(32).to_dict()
    save_pretrained(model, path)
    return path, open_model(path, device="cpu")


def inputs(ready, tower):
    if tower == "image":
        pixels = torch.randint(256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(1))
        return ready.prepare(pixels.byte()), None
    return None, without_padding(ready.model, ready.tokenizer(["a cat", "two small dogs"]))


@torch.no_grad()
def features(ready, tower):
    found = ready.model(*inputs(ready, tower))
    return found[0] if tower == "image" else found[1]


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("only", "other"), [("image", "text"), ("text", "image")])
def test_one_tower_has_the_features_and_digests_of_both(opened, only, other):
    path, whole = opened
    ready = open_model(path, device="cpu", only=only)
    assert ready.only == only and whole.only is None
    assert torch.equal(features(ready, only), features(whole, only))
    assert ready.digests == whole.digests and ready.logit_scale == whole.logit_scale
    num_of_images = num_parameters(whole.model.visual)
    left = num_of_images if only == "image" else num_parameters(whole.model) - num_of_images
    scale = 1 if only == "image" else 0  # which is among the text's parameters above
    assert num_parameters(ready.model) == left + scale
    with pytest.raises(ValueError, match=f"the {other} tower of this model was left out"):
        ready.model(*inputs(whole, other))


def test_only_is_one_of_two(opened):
    with pytest.raises(ValueError, match="only must be None, 'image' or 'text', got 'img'"):
        open_model(opened[0], only="img")
