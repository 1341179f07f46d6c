"""torch.compile sees each tower whole: no graph break, the same features, the same gradients."""

from dataclasses import replace

import pytest
import torch

from tests.support.small_models import SMALL, build, inputs, with_layers

# Every image tower, text tower and activation, and with what a tower of blocks is checkpointed;
# recomputed statistics of a ResNet need a context that torch.compile does not take.
KINDS = {
    "quick_gelu": (SMALL["quick_gelu"], False),
    "resnet": (SMALL["resnet"], False),
    "siglip": (SMALL["siglip"], True),
    "clipa, eos": (replace(SMALL["clipa"], text_cfg=SMALL["eos"].text_cfg), True),
}


@pytest.mark.compilers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("config, checkpointing", KINDS.values(), ids=KINDS)
def test_towers_compile_without_a_graph_break(config, checkpointing):
    torch._dynamo.reset()
    config = with_layers(config, 1)
    images, tokens = inputs(config)
    model = build(config)
    model.set_grad_checkpointing(checkpointing)
    expected = model(images, tokens)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    found = compiled(images, tokens)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    weights = torch.linspace(-1, 1, expected[0].numel()).reshape(expected[0].shape)
    for features in (expected, found):
        model.zero_grad()
        (features[2] * features[0] * features[1] * weights).sum().backward()
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        if features is expected:
            expected = gradients
    assert gradients.keys() == expected.keys()
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[parameter], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_training_with_patch_dropout_compiles():
    torch._dynamo.reset()
    config = with_layers(SMALL["vit"], 1)
    config = replace(config, vision_cfg=replace(config.vision_cfg, patch_dropout=0.5))
    model = build(config).train()
    compiled = torch.compile(model.visual, fullgraph=True, backend="aot_eager")
    compiled(inputs(config)[0]).square().sum().backward()
    assert model.visual.conv1.weight.grad.any()
