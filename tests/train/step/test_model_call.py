"""Models of other packages in a cached step: features, scale and gradients of the plain step."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import fastclip
from fastclip import ClipLoss, SigLipLoss, cached_step
from fastclip.models.openai import LogitsCLIP
from fastclip.train.step.model_call import call
from tests.support.peers import open_clip, transformers
from tests.support.small_models import SMALL, inputs

B, MICRO = 7, 3
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 2}  # fmt: skip
TEXT = {**TOWER, "vocab_size": 64, "max_position_embeddings": 9, "projection_dim": 16}
VISION = {**TOWER, "image_size": 32, "patch_size": 16, "projection_dim": 16}
OPEN_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 9, "vocab_size": 64, "width": 64, "heads": 2, "layers": 1},
}


def make_batch():
    images, tokens = inputs(SMALL["vit"], B)
    mask = (tokens != 0).long()
    return images.double(), tokens, mask


def make_theirs(name):
    torch.manual_seed(0)
    settings = {}
    if name == "clip":
        # 2 is the end of text of old configurations: read at the largest token.
        text = {**TEXT, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
        kind, config = transformers.CLIPModel, transformers.CLIPConfig
        settings["projection_dim"] = 16
    else:
        text, kind, config = TEXT, transformers.SiglipModel, transformers.SiglipConfig
    model = kind(config(text_config=text, vision_config=VISION, **settings))
    with torch.no_grad():
        model.logit_scale.fill_(2.0)
    return model.double().train()


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(found, expected):
    assert found.keys() == expected.keys() and "logit_scale" in found
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12, msg=name)


def plain_gradients(model, images, tokens, mask, loss):
    """Of the outputs and the parameters of transformers' own forward."""
    masked = {} if mask is None else {"attention_mask": mask}
    outputs = model(input_ids=tokens, pixel_values=images, return_dict=True, **masked)
    bias = [model.logit_bias] if hasattr(model, "logit_bias") else []
    value = loss(outputs.image_embeds, outputs.text_embeds, model.logit_scale.exp(), *bias)
    value.backward()
    return value.item()


@pytest.mark.parametrize("budget", [0, "unlimited"])
@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_transformers_models_get_the_gradients_of_the_plain_step(name, is_masked, budget):
    images, tokens, mask = make_batch()
    loss = (SigLipLoss if name == "siglip" else ClipLoss)(backend="reference")
    model = make_theirs(name)
    other = copy.deepcopy(model)
    mask = mask if is_masked else None
    value = plain_gradients(model, images, tokens, mask, loss)
    texts = {"input_ids": tokens, "attention_mask": mask} if is_masked else tokens
    result = cached_step(other, (images, texts), loss, MICRO, budget)
    assert result.loss.item() == pytest.approx(value, rel=1e-12)
    assert result.logit_scale.shape == () and result.logit_scale.item() == pytest.approx(7.389056)
    assert_equal(gradients(other), gradients(model))


def test_what_a_processor_returns_may_come_by_name():
    images, tokens, mask = make_batch()
    batch = transformers.BatchEncoding({"input_ids": tokens, "attention_mask": mask})
    pixels = transformers.BatchFeature({"pixel_values": images})
    models = [make_theirs("clip") for _ in range(2)]
    cached_step(models[0], (pixels, batch), ClipLoss(), MICRO)
    cached_step(models[1], (images, dict(batch)), ClipLoss(), MICRO)
    assert_equal(gradients(models[0]), gradients(models[1]))


@pytest.mark.parametrize("settings", [{}, {"output_dict": True}, {"init_logit_bias": -10.0}])
def test_open_clip_models_get_the_gradients_of_the_plain_step(settings):
    images, tokens, _ = make_batch()
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(**OPEN_CLIP, **settings).double().train()
    other = copy.deepcopy(model)
    outputs = model(images, tokens)
    loss = SigLipLoss() if "init_logit_bias" in settings else ClipLoss()
    loss(*(outputs.values() if isinstance(outputs, dict) else outputs)).backward()
    cached_step(other, (images, tokens), loss, MICRO)
    assert_equal(gradients(other), gradients(model))


class Model(nn.Module):
    """Returns what it is told."""

    logit_scale = None

    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, images, texts):
        return self.result


FEATURES = torch.ones(2, 3)


@pytest.mark.parametrize(
    "result, told",
    [
        ((FEATURES, FEATURES), "returned no logit_scale, but a tuple of 2"),
        ({"logits": FEATURES}, r"no text_features and no logit_scale, but a mapping with \['logi"),
        (SimpleNamespace(image_embeds=FEATURES, text_embeds=FEATURES), "no logit_scale, but a Sim"),
        (FEATURES, "returned no image_features .* but a Tensor"),
    ],
)
def test_what_is_no_pair_of_features_with_a_scale_is_an_error(result, told):
    with pytest.raises(TypeError, match=told):
        call(Model(result), FEATURES, FEATURES)


def test_model_that_returns_logits_is_an_error_that_says_what_to_do():
    images, tokens, _ = make_batch()
    with pytest.raises(TypeError, match="a model that returns logits needs a module around it"):
        cached_step(LogitsCLIP(SMALL["vit"]).double(), (images, tokens), ClipLoss(), MICRO)


def test_names_of_a_models_own_decide_how_it_is_called():
    class OwnNames(nn.Module):
        """Their names, and a mapping of texts in one argument."""

        def forward(self, pixel_values, input_ids):
            return pixel_values, input_ids["ids"], torch.ones(())

    found = call(OwnNames(), FEATURES, {"ids": 2 * FEATURES})
    assert torch.equal(found["text_features"], 2 * FEATURES)

    class Any(nn.Module):
        def __init__(self):
            super().__init__()
            self.logit_scale = nn.Parameter(torch.zeros(1))

        def forward(self, pixel_values, input_ids, **options):
            assert options == {"return_dict": True}
            return {"image_embeds": pixel_values, "text_embeds": input_ids}

    class Adapted(nn.Module):
        """As peft wraps."""

        def __init__(self):
            super().__init__()
            self.base_model = Any()

        def get_base_model(self):
            return self.base_model

        def forward(self, *args, **options):
            return self.base_model(*args, **options)

    for model in (Any(), Adapted(), torch.compile(Any(), backend="eager")):
        assert call(model, FEATURES, FEATURES)["logit_scale"].tolist() == [1.0]


def test_tensors_of_a_batch_must_have_equally_many_rows():
    step = fastclip.CachedStep(make_theirs("clip"), ClipLoss(), MICRO)
    images, tokens, mask = make_batch()
    with pytest.raises(ValueError, match=r"equally many rows, got .*'mask': \(3, 9\)"):
        step({"pixel_values": images, "mask": mask[:3]}, tokens)
    with pytest.raises(ValueError, match=r"7 images and \[7, 3\] texts"):
        step(images, {"input_ids": tokens, "attention_mask": mask[:3]})
