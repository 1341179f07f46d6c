from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fastclip.models.clip import CLIP
from fastclip.models.config import ClipConfig, TextConfig, VisionConfig
from fastclip.models.registry import get_model_config
from fastclip.train.settings.step_config import StepConfig
from fastclip.train.step.optimizer import make_optimizer, moments_of, parameter_groups
from tests.support.small_models import SMALL, build

MODEL = ClipConfig(
    8, VisionConfig((4, 4), patch_size=2, width=8, layers=1, head_width=4, channels=1),
    TextConfig(context_length=4, vocab_size=6, width=8, heads=2, layers=1),
)  # fmt: skip


def names_of(model, parameters):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)] for parameter in parameters}


def test_matrices_decay_and_vectors_and_the_scale_do_not():
    model = CLIP(MODEL)
    kept, decayed = (group["params"] for group in parameter_groups(model.parameters(), 0.1))
    assert names_of(model, decayed) >= {"visual.conv1.weight", "token_embedding.weight"}
    assert names_of(model, kept) == {
        name for name, _ in model.named_parameters()
        if "ln_" in name or "bias" in name or name in {"logit_scale", "visual.class_embedding"}
    }  # fmt: skip
    assert len(decayed) + len(kept) == len(list(model.parameters()))


def test_frozen_parameters_are_left_out():
    model = CLIP(MODEL)
    model.visual.requires_grad_(False)
    trained = [p for group in parameter_groups(model.parameters(), 0.1) for p in group["params"]]
    assert not any(name.startswith("visual.") for name in names_of(model, trained))


def test_weight_decay_alone_shrinks_matrices_only():
    layer = nn.Linear(2, 2)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    config = StepConfig(batch_size=2, steps=1, learning_rate=0.1, weight_decay=0.5)
    optimizer = make_optimizer(layer, config)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight, torch.full((2, 2), 0.95))
    assert torch.equal(layer.bias, torch.ones(2))


def test_optimizer_takes_its_settings_from_the_config():
    config = StepConfig(batch_size=2, steps=1, beta1=0.8, beta2=0.9, eps=1e-5)
    for group in make_optimizer(nn.Linear(2, 2), config).param_groups:
        assert (group["betas"], group["eps"]) == ((0.8, 0.9), 1e-5)


@pytest.mark.parametrize("name", ["vit", "resnet", "siglip", "layer_scale"])
def test_groups_are_those_of_open_clips_rule(name):
    """As `open_clip_train.main` has it, by names where ours is by dimensions."""
    model = build(SMALL[name])

    def is_excluded(name, p):
        return p.ndim < 2 or any(part in name for part in ("bn", "ln", "bias", "logit_scale"))

    named = list(model.named_parameters())
    theirs = [
        [p for n, p in named if is_excluded(n, p)],
        [p for n, p in named if not is_excluded(n, p)],
    ]
    for group, expected in zip(parameter_groups(model.parameters(), 0.1), theirs, strict=True):
        assert [id(p) for p in group["params"]] == [id(p) for p in expected]


@pytest.mark.parametrize("name", ["ViT-B-32", "RN50", "ViT-B-16-SigLIP"])
def test_moments_are_open_clips_of_the_name(name):
    from open_clip_train.params import get_default_params

    theirs = get_default_params(name)
    model = SimpleNamespace(config=get_model_config(name))
    assert moments_of(model)._asdict() == {k: v for k, v in theirs.items() if k != "lr"}
