"""LocCaLoss is a contrastive loss and a mean over tokens; cached steps of it are the plain step."""

import pytest
import torch
import torch.nn.functional as F

import fastclip
from fastclip.train.step.cached import CachedStep
from tests.support.small_locca import locca_and_batch


@pytest.fixture(scope="module")
def batch():
    return locca_and_batch(7)


@pytest.mark.fast
@pytest.mark.parametrize("contrastive, weight", [("siglip", 1.0), ("clip", 0.3), ("siglip", 0.0)])
def test_terms_are_the_dense_ones(batch, contrastive, weight):
    model, images, texts = batch
    with torch.no_grad():
        found = model(images, texts)
        loss = fastclip.LocCaLoss(weight, contrastive, backend="reference")
        terms = loss(**found)
    assert list(terms) == ["contrastive_loss", "caption_loss"]
    logits = found["logit_scale"] * found["image_features"] @ found["text_features"].T
    logits = logits + found["logit_bias"]
    if contrastive == "siglip":
        signs = 2 * torch.eye(7, dtype=torch.float64) - 1
        expected = -F.logsigmoid(signs * logits).sum() / 7
    else:
        own = torch.arange(7)
        expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    assert abs(terms["contrastive_loss"] - expected) < 1e-6 * expected
    of_tokens = found["caption_losses"].sum() / found["caption_tokens"].sum()
    assert abs(terms["caption_loss"] - weight * of_tokens) <= 1e-12 * of_tokens


def test_options_reach_the_contrastive_loss(batch):
    model, images, texts = batch
    with torch.no_grad():
        found = model(images, texts)
    ids = torch.tensor([0, 1, 0, 3, 4, 5, 6])
    loss = fastclip.LocCaLoss(positives="ids", backend="reference")
    features = [found[n] for n in ("image_features", "text_features", "logit_scale", "logit_bias")]
    expected = fastclip.siglip_loss(*features, ids=ids, positives="ids", backend="reference")
    assert torch.equal(loss(**found, ids=ids)["contrastive_loss"], expected)
    assert "caption_loss_weight=1.0" in repr(loss) and "'reference'" in repr(loss)


@pytest.mark.parametrize(
    "settings, error, message",
    [
        (dict(contrastive="coca"), ValueError, r"one of \('siglip', 'clip'\), got 'coca'"),
        (dict(caption_loss_weight=-1.0), ValueError, "caption_loss_weight must be finite and not"),
        (dict(caption_loss_weight=float("nan")), ValueError, "got nan"),
        (dict(label_smoothing=0.1), TypeError, "label_smoothing"),  # SigLipLoss has none
    ],
)
def test_what_cannot_be_obeyed_is_refused(settings, error, message):
    with pytest.raises(error, match=message):
        fastclip.LocCaLoss(**settings)


def test_numbers_of_captions_must_be_those_of_pairs(batch):
    model, images, texts = batch
    with torch.no_grad():
        found = model(images, texts)
    loss = fastclip.LocCaLoss(backend="reference")
    with pytest.raises(
        ValueError, match=r"caption_losses must have shape \(7,\), one per pair, got"
    ):
        loss(**found | {"caption_losses": found["caption_losses"].sum()})
    with pytest.raises(
        ValueError, match=r"caption_tokens must have shape \(7,\), one per pair, got"
    ):
        loss(**found | {"caption_tokens": found["caption_tokens"][:6]})
    found.pop("caption_losses")
    with pytest.raises(TypeError, match="caption_losses"):
        loss(**found)


@pytest.mark.parametrize("budget", [0, "unlimited"])
def test_cached_steps_are_the_plain_step_over_the_whole_batch(batch, budget):
    model, images, texts = batch
    loss = fastclip.LocCaLoss(0.7, backend="reference")
    model.train()
    model.zero_grad()
    terms = loss(**model(images, texts))
    sum(terms.values()).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    result = CachedStep(model, loss, 3, budget)(images, texts)
    assert result.num_micro_batches == 3 and result.num_kept == (0 if budget == 0 else 3)
    assert result.terms.keys() == terms.keys()
    for name, value in terms.items():
        torch.testing.assert_close(result.terms[name], value.detach(), rtol=1e-12, atol=0)
    for name, parameter in model.named_parameters():
        scale = expected[name].abs().max().clamp(min=1e-30)
        assert (parameter.grad - expected[name]).abs().max() / scale < 1e-10, name
    # Every part has a gradient: that of the decoder reaches the image tower, too.
    assert all(gradient.abs().sum() > 0 for gradient in expected.values())
