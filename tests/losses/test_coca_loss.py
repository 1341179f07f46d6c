"""CoCaLoss is open_clip's, with and without the logits of captions."""

from functools import partial

import pytest
import torch

import fastclip
from fastclip.train.step.cached import CachedStep
from tests.support.peers import open_clip
from tests.support.small_models import COCA, build, inputs

reference = partial(fastclip.CoCaLoss, backend="reference")


@pytest.fixture(scope="module")
def batch():
    images, tokens = inputs(COCA, 7)
    return build(COCA).double(), images.double(), tokens


@pytest.mark.parametrize("weights", [(2.0, 1.0), (0.5, 0.0)])
def test_values_are_open_clips(batch, weights):
    model, images, tokens = batch
    found = model(images, tokens)
    expected = open_clip.CoCaLoss(*weights)(**found, output_dict=True)
    ours = reference(*weights)(**found, output_dict=True)
    without_logits = reference(*weights)(
        **model(images, tokens, captions="losses"), output_dict=True
    )
    for each in (ours, without_logits):
        assert each.keys() == expected.keys()
        for name, value in each.items():
            torch.testing.assert_close(value.double(), expected[name].double(), rtol=1e-9, atol=0)
    assert isinstance(reference(*weights)(**found), tuple)


def test_what_is_missing_is_named(batch):
    model, images, tokens = batch
    found = model(images, tokens)
    scale = found.pop("logit_scale")
    with pytest.raises(TypeError, match="logit_scale is missing"):
        reference(2, 1)(**found)
    with pytest.raises(TypeError, match="give logits and labels, or caption_losses"):
        reference(2, 1)(found["image_features"], found["text_features"], logit_scale=scale)


def test_a_batch_of_padding_has_no_caption_loss(batch):
    model, images, tokens = batch
    empty = torch.cat([tokens[:, :1], torch.zeros_like(tokens[:, 1:])], dim=1)
    _, caption = reference(2.0, 1.0)(**model(images, empty, captions="losses"))
    assert caption == 0


@pytest.mark.parametrize("budget", [0, "unlimited"])
def test_cached_steps_are_the_plain_step_over_the_whole_batch(batch, budget):
    model, images, tokens = batch
    loss = partial(reference(2.0, 1.0), output_dict=True)
    model.train()
    model.zero_grad()
    terms = loss(**model(images, tokens))
    sum(terms.values()).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    result = CachedStep(model, loss, 3, budget)(images, tokens)
    assert result.num_micro_batches == 3 and result.num_kept == (0 if budget == 0 else 3)
    assert result.terms.keys() == terms.keys()
    for name, value in terms.items():
        torch.testing.assert_close(result.terms[name], value.detach(), rtol=1e-12, atol=0)
    for name, parameter in model.named_parameters():
        scale = expected[name].abs().max().clamp(min=1e-30)
        assert (parameter.grad - expected[name]).abs().max() / scale < 1e-11, name
