"""Traced models: the same bits as the model in evaluation mode, for any batch."""

import io

import pytest
import torch

import fastclip
from fastclip.models.tracing import trace_model
from fastclip.models.two_tower import TwoTower
from tests.support.small_models import SMALL, build, inputs, with_layers


@pytest.mark.parametrize("config", SMALL.values(), ids=SMALL)
def test_program_computes_what_the_model_does_at_another_batch_size(config):
    config = with_layers(config, 1)
    model = build(config)
    program = trace_model(model, batch_size=2)
    images, tokens = inputs(config, batch_size=5)
    with torch.no_grad():
        for normalize in (False, True):
            expected = model.encode_image(images, normalize=normalize)
            assert torch.equal(program.encode_image(images, normalize=normalize), expected)
            expected = model.encode_text(tokens, normalize=normalize)
            assert torch.equal(program.encode_text(tokens, normalize=normalize), expected)
        for ours, expected in zip(program(images, tokens), model(images, tokens), strict=True):
            assert torch.equal(ours, expected)
    names = program.state_dict().keys()  # TorchScript stores every buffer
    assert {name for name in names if not name.endswith("attn_mask")} == model.state_dict().keys()
    assert (program.context_length, program.vocab_size) == (9, 64)
    assert program.visual.image_size == config.vision_cfg.image_size


def test_program_of_a_model_with_output_dict_returns_one():
    model = build(SMALL["siglip"])
    model.output_dict = True
    program = trace_model(model, batch_size=2)
    images, tokens = inputs(SMALL["siglip"], batch_size=1)
    found, expected = program(images, tokens), model(images, tokens)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_program_is_saved_and_runs_without_the_model():
    model = build(SMALL["resnet"])
    file = io.BytesIO()
    torch.jit.save(trace_model(model, batch_size=2), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    images, tokens = inputs(SMALL["resnet"], batch_size=4)
    assert torch.equal(loaded.encode_text(tokens, normalize=True), model.encode_text(tokens, True))
    assert torch.equal(loaded.encode_image(images), model.encode_image(images))


def test_program_shares_parameters_and_is_in_evaluation_mode():
    model = fastclip.create_model("ViT-S-32-alt", force_patch_dropout=0.5)
    assert model.training
    program = trace_model(model, batch_size=2)
    assert not model.training and not program.training
    images = torch.randn(3, 3, 224, 224)
    before = program.encode_image(images)
    assert torch.equal(before, model.encode_image(images))
    with torch.no_grad():
        model.visual.proj.mul_(2.0)
    torch.testing.assert_close(program.encode_image(images), 2 * before)
    assert fastclip.get_model_preprocess_cfg(program) == fastclip.get_model_preprocess_cfg(model)


@pytest.mark.parametrize("tower", ["visual", "text"])
def test_towers_that_return_their_tokens_are_refused(tower):
    model = build(SMALL["custom_text"])
    getattr(model, tower).output_tokens = True
    with pytest.raises(ValueError, match="output_tokens=True cannot be traced"):
        trace_model(model)


def test_pairs_of_a_users_own_encoders_are_refused_by_name():
    model = TwoTower(torch.nn.Linear(3, 4), torch.nn.Linear(3, 4))
    with pytest.raises(TypeError, match="only built-in models can be traced, not TwoTower"):
        trace_model(model)
