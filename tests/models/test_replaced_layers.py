"""Layers of somebody else's in a tower, and towers that were changed from outside.

They are called as in OpenAI's and open_clip's, and never asked for what theirs would not have.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fastclip.models.openai import LogitsCLIP
from tests.models.test_output_tokens import peer_of
from tests.support.small_models import SMALL, build, inputs

CONFIG = SMALL["quick_gelu"]
IMAGES, TOKENS = inputs(CONFIG)
TOLERANCE = dict(rtol=1e-5, atol=1e-5)


@pytest.fixture(params=["built", "loaded"])
def model(request):
    model = build(CONFIG)
    if request.param == "loaded":
        weights = model.state_dict()
        model = LogitsCLIP(CONFIG).eval()
        model.load_state_dict(weights)
    return model


def blocks_of(model):
    return [*model.transformer.resblocks, *model.visual.transformer.resblocks]


def assert_unchanged_by(change, model):
    expected = model.encode_image(IMAGES), model.encode_text(TOKENS)
    change(model)
    found = model.encode_image(IMAGES), model.encode_text(TOKENS)
    torch.testing.assert_close(found, expected, **TOLERANCE)


class Attention(nn.Module):
    """As low-rank adapters of attention are: no attribute says what the layout is."""

    def __init__(self, plain, batch_first):
        super().__init__()
        self.inner = nn.MultiheadAttention(128, 2, batch_first=batch_first)
        self.inner.load_state_dict(plain.state_dict())

    def forward(self, query, key, value, need_weights=False, attn_mask=None):
        return self.inner(query, key, value, need_weights=need_weights, attn_mask=attn_mask)


class LowRank(nn.Module):
    """A linear layer and a product of two thin ones; it has no `weight` of its own."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.down = nn.Linear(linear.in_features, 2, bias=False)
        self.up = nn.Linear(2, linear.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.linear(x) + self.up(self.down(x))


class OpenAIBlock(nn.Module):
    """A block as prompt learners write it: it takes tokens alone, and keeps its mask."""

    def __init__(self, block):
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = block.ln_1, block.attn, block.ln_2, block.mlp
        self.attn_mask = block.attn_mask

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=self.attn_mask)[0]
        return x + self.mlp(self.ln_2(x))


def test_attention(model):
    def change(model):
        for block in blocks_of(model):
            block.attn = Attention(block.attn, model.transformer.batch_first)

    assert_unchanged_by(change, model)


def test_linear_layers_without_a_weight(model):
    def change(model):
        for block in blocks_of(model):
            block.mlp.c_fc = LowRank(block.mlp.c_fc)

    assert_unchanged_by(change, model)
    assert model.transformer.get_cast_dtype() == torch.float32


def test_every_block_of_a_loaded_model():
    model = LogitsCLIP(CONFIG).eval()

    def change(model):
        for transformer in (model.transformer, model.visual.transformer):
            transformer.resblocks = nn.Sequential(*map(OpenAIBlock, transformer.resblocks))

    assert_unchanged_by(change, model)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_layers(model):
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    cosine = nn.CosineSimilarity()
    assert cosine(quantised.encode_text(TOKENS), model.encode_text(TOKENS)).min() > 0.99
    assert cosine(quantised.encode_image(IMAGES), model.encode_image(IMAGES)).min() > 0.99


def test_dropout_of_attention_is_what_torch_makes_of_it(model):
    attention = model.visual.transformer.resblocks[0].attn
    attention.dropout = 0.9
    assert torch.equal(model.encode_image(IMAGES), model.encode_image(IMAGES))
    model.train()
    assert not torch.equal(model.encode_image(IMAGES), model.encode_image(IMAGES))


def test_wrapped_blocks_take_any_number_of_images_where_patches_are_dropped():
    """As FSDP and checkpointing wrap them: a wrapper is not told what the tower knows."""

    class Wrapper(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.inner = block

        def forward(self, *args, **named):
            return self.inner(*args, **named)

    config = replace(CONFIG, vision_cfg=replace(CONFIG.vision_cfg, patch_dropout=0.5))
    model = build(config).train()
    model.visual.transformer.resblocks = nn.ModuleList(
        map(Wrapper, model.visual.transformer.resblocks)
    )
    assert model.encode_image(torch.randn(17, 3, 32, 32)).shape == (17, 48)


class Wrapped(nn.Module):
    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def forward(self, x):
        return self.stage(x)


@pytest.fixture
def resnet():
    return build(SMALL["resnet"]).visual


def test_hooks_on_stages_of_a_resnet_see_maps_and_gradients(resnet):
    """As Grad-CAM has them."""
    maps, gradients = [], []
    resnet.layer4.register_forward_hook(lambda module, args, output: maps.append(output))
    resnet.layer4.register_full_backward_hook(lambda module, _, out: gradients.append(out[0]))
    resnet(inputs(SMALL["resnet"])[0]).sum().backward()
    assert [x.shape for x in maps] == [x.shape for x in gradients] == [(3, 256, 2, 2)]


def test_stages_of_a_resnet_are_sliced_and_replaced(resnet):
    images = inputs(SMALL["resnet"])[0]
    expected = resnet(images)
    resnet.layer2 = resnet.layer2[:]
    resnet.layer4 = Wrapped(resnet.layer4)
    assert torch.equal(resnet(images), expected)


@pytest.mark.parametrize("names", [("relu1", "relu2", "relu3"), ("act1", "act2", "act3")])
def test_a_resnet_by_hand_is_the_tower(resnet, names):
    images = inputs(SMALL["resnet"])[0]
    x = images
    for i, name in enumerate(names, 1):
        conv, norm = getattr(resnet, f"conv{i}"), getattr(resnet, f"bn{i}")
        x = getattr(resnet, name)(norm(conv(x)))
    x = resnet.avgpool(x)
    for stage in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
        x = stage(x)
    expected = resnet(images)
    assert torch.equal(resnet.attnpool(x), expected) and resnet.attnpool.num_heads == 8
    setattr(resnet.layer1[0], names[0], nn.Identity())
    assert not torch.equal(resnet(images), expected)


def test_a_resnet_has_open_clips_modules(resnet):
    model = build(SMALL["resnet"])
    theirs = peer_of(model, SMALL["resnet"]).visual
    assert {n for n, _ in resnet.named_modules()} == {n for n, _ in theirs.named_modules()}


def resized(model, positions):
    """Positions put in place, or written into the parameter, for 36 patches instead of 16."""
    model.visual.positional_embedding = nn.Parameter(positions)


def resized_in_place(model, positions):
    model.visual.positional_embedding.data = positions


@pytest.mark.parametrize("resize", [resized, resized_in_place])
def test_images_fit_positions_that_were_resized(resize):
    model = build(CONFIG)
    theirs = peer_of(model, CONFIG)
    positions, images = torch.randn(37, 128), torch.randn(2, 3, 48, 48)
    with pytest.raises(ValueError, match=r"\(B, 3, 32, 32\), got \(2, 3, 48, 48\)"):
        model.encode_image(images)
    for each in (model, theirs):
        resize(each, positions)
    torch.testing.assert_close(
        model.encode_image(images), theirs.encode_image(images), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ValueError, match="images must be"):
        model.encode_image(torch.randn(2, 1, 48, 48))


def test_a_resnet_without_its_readout_takes_any_size(resnet):
    with pytest.raises(ValueError, match="images must be"):
        resnet(torch.randn(2, 3, 128, 96))
    resnet.attnpool = nn.Identity()
    assert resnet(torch.randn(2, 3, 128, 96)).shape == (2, 256, 4, 3)


def test_texts_fit_positions_that_were_resized():
    model = build(CONFIG)
    theirs = peer_of(model, CONFIG)
    positions, tokens = torch.randn(20, 128), torch.randint(1, 60, (2, 20))
    tokens[:, 15] = 63
    for each in (model, theirs):
        each.positional_embedding = nn.Parameter(positions)
        each.attn_mask = torch.full((20, 20), float("-inf")).triu(1)
    expected = theirs.encode_text(tokens)
    torch.testing.assert_close(model.encode_text(tokens), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"T in \[1, 20\]"):
        model.encode_text(torch.ones(1, 21, dtype=torch.int64))
    model.attn_mask = torch.zeros(9, 9)
    with pytest.raises(ValueError, match=r"attn_mask must be for at least the 20 tokens.*\(9, 9\)"):
        model.encode_text(tokens)


@pytest.mark.parametrize("name", ["vit", "resnet", "siglip"])
def test_the_first_layer_need_not_have_a_weight_of_its_own(name):
    model = build(SMALL[name])
    images, _ = inputs(SMALL[name])
    expected = model.encode_image(images)
    first = {"siglip": ("trunk.patch_embed", "proj")}.get(name, ("", "conv1"))
    owner = model.visual.get_submodule(first[0])
    setattr(owner, first[1], nn.Sequential(getattr(owner, first[1])))
    assert torch.equal(model.encode_image(images), expected)
    assert getattr(model, "dtype", torch.float32) == torch.float32
    model.visual.to(torch.bfloat16)
    assert model.encode_image(images).dtype == torch.bfloat16
