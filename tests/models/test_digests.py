"""Models that compute differently have different digests, with the same weights too."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fastclip.models.digests import configuration_digest, digest_of, weights_digest
from fastclip.models.encoder_tower import EncoderTower
from fastclip.models.two_tower import TwoTower
from tests.support.small_models import SIGLIP, SMALL, VIT, build


def changed(config, tower, **fields):
    return replace(config, **{tower: replace(getattr(config, tower), **fields)})


@pytest.mark.parametrize(
    "config, tower, fields",
    [
        (VIT, "vision_cfg", {"activation": "quick_gelu"}),
        (VIT, "text_cfg", {"activation": "gelu_tanh"}),
        (VIT, "vision_cfg", {"head_width": 32}),
        (VIT, "text_cfg", {"heads": 4}),
        (VIT, "vision_cfg", {"norm_eps": 1e-6}),
        (VIT, "vision_cfg", {"pool_type": "avg"}),
        (VIT, "text_cfg", {"pool_type": "last"}),
        (VIT, "text_cfg", {"no_causal_mask": True}),
        (SIGLIP, "vision_cfg", {"heads": 2}),
        (SMALL["resnet"], "vision_cfg", {"head_width": 64}),
    ],
)
def test_what_changes_features_changes_the_digest(config, tower, fields):
    one, other = build(config), build(changed(config, tower, **fields))
    assert weights_digest(one) == weights_digest(other)
    assert configuration_digest(one) != configuration_digest(other)
    assert configuration_digest(one) == configuration_digest(build(config))


def test_what_changes_no_feature_does_not_count():
    """How a model is trained, where it begins, what its files are called; what shapes tell."""
    other = changed(VIT, "vision_cfg", patch_dropout=0.5, mlp_ratio=4.0001, output_tokens=True)
    other = changed(other, "text_cfg", hf_tokenizer_name="elsewhere", tokenizer_kwargs={"a": 1})
    other = replace(other, init_logit_scale=1.0)
    assert configuration_digest(build(other)) == configuration_digest(build(VIT))


class Encoder(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.weights, self.act = nn.Linear(4, 4), activation

    def forward(self, batch):
        return self.act(self.weights(batch))


def pair(activation=None, pool="first"):
    torch.manual_seed(0)
    towers = [EncoderTower(Encoder(activation or nn.GELU()), 3, 4, pool) for _ in range(2)]
    return TwoTower(*towers)


@pytest.mark.parametrize(
    "change", [{"activation": nn.GELU("tanh")}, {"activation": nn.ReLU()}, {"pool": "mean"}]
)
def test_a_pair_of_any_encoders_is_told_by_its_modules(change):
    assert weights_digest(pair()) == weights_digest(pair(**change))
    assert configuration_digest(pair()) == configuration_digest(pair().eval())
    assert configuration_digest(pair()) != configuration_digest(pair(**change))


def test_settings_that_hold_objects_do_not_depend_on_where_they_are_in_memory():
    class Thing(nn.Module):
        def __init__(self):
            super().__init__()
            self.things = (object(),)

    assert configuration_digest(Thing()) == configuration_digest(Thing())


def test_the_digest_of_weights_is_that_of_their_names_and_values_in_any_order():
    model = build(VIT)
    values = dict(sorted(model.state_dict().items()))
    assert weights_digest(model) == digest_of(values)
    values["visual.proj"] = values["visual.proj"] + 1
    assert weights_digest(model) != digest_of(values)
