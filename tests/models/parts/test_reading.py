"""The last block computes one token where nobody looks, and every token wherever somebody could."""

import types

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.flop_counter import FlopCounterMode

from fastclip.models.parts.transformer import ResidualBlock, Transformer
from tests.support.small_models import SMALL, build, inputs

IMAGES, TOKENS = inputs(SMALL["vit"])
TOWERS = {"visual": ("visual.transformer", "visual.ln_post"), "text": ("transformer", "ln_final")}
LOOKED_AT = ("", ".resblocks.{last}", ".resblocks.{last}.attn", ".resblocks.{last}.ln_1",
             ".resblocks.{last}.mlp.c_proj", ".resblocks.{last}.ls_1")  # fmt: skip


def features_of(model, tower):
    return model.encode_image(IMAGES) if tower == "visual" else model.encode_text(TOKENS)


def num_tokens_of(tower):
    return 17 if tower == "visual" else 9


def last_of(model, tower):
    return model.get_submodule(TOWERS[tower][0]).resblocks[-1]


def places(tower):
    transformer, norm = TOWERS[tower]
    last = 2 if tower == "visual" else 1
    return [*(transformer + place.format(last=last) for place in LOOKED_AT), norm]


def flops(model, tower):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        features_of(model, tower)
    return counter.get_total_flops()


@pytest.mark.parametrize("tower, place", [(t, place) for t in TOWERS for place in places(t)])
def test_hooks_see_every_token_and_change_no_feature(tower, place):
    model = build(SMALL["vit"])
    expected, seen = features_of(model, tower), []
    handle = model.get_submodule(place).register_forward_hook(
        lambda module, args, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    found = features_of(model, tower)
    assert [x.shape for x in seen] == [(3, num_tokens_of(tower), 128)]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    handle.remove()
    assert torch.equal(features_of(model, tower), expected)


@pytest.mark.parametrize("tower", TOWERS)
def test_what_a_hook_on_the_last_block_sees_is_what_is_read(tower):
    model = build(SMALL["vit"])
    seen = []
    last_of(model, tower).register_forward_hook(lambda *a: seen.append(a[-1]))
    found = features_of(model, tower)
    norm, head = (
        (model.visual.ln_post, model.visual.proj)
        if tower == "visual"
        else (model.ln_final, model.text_projection)
    )
    at = 0 if tower == "visual" else TOKENS.argmax(-1)
    torch.testing.assert_close(norm(seen[0])[torch.arange(3), at] @ head, found)


def watch_before(block, seen):
    block.mlp.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))


def watch_gradients(block, seen):
    block.register_full_backward_hook(lambda module, inward, out: seen.append(out[0].shape[1]))


def watch_all_modules(block, seen):
    def hook(module, args, output):
        if module is block:
            seen.append(output.shape[1])

    return register_module_forward_hook(hook)


def patch_attention(block, seen):
    """As dense-feature code does: what `attention` returns is of the caller's making."""
    original = block.attention

    def attention(x, **mask):
        seen.append(x.shape[1])
        return original(x, **mask)

    block.attention = attention


def patch_forward(block, seen):
    def forward(self, x, attn_mask=None):
        seen.append(x.shape[1])
        return ResidualBlock.forward(self, x, attn_mask=attn_mask)

    block.forward = types.MethodType(forward, block)


def wrap_a_layer(block, seen):
    """As adapters do, LoRA's among them: a module that holds the layer takes its place."""

    class Adapter(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base = base

        def forward(self, x):
            seen.append(x.shape[1])
            return self.base(x)

    block.mlp.c_fc = Adapter(block.mlp.c_fc)
    block.get_weight_dtype = lambda: torch.float32


@pytest.mark.parametrize(
    "look",
    [watch_before, watch_gradients, watch_all_modules, patch_attention, patch_forward,
     wrap_a_layer],
)  # fmt: skip
@pytest.mark.parametrize("tower", TOWERS)
def test_other_ways_of_looking_see_every_token_too(look, tower):
    model = build(SMALL["vit"])
    expected, seen = features_of(model, tower).detach(), []
    handle = look(last_of(model, tower), seen)
    found = features_of(model, tower)
    found.sum().backward()
    if handle is not None:
        handle.remove()
    assert seen == [num_tokens_of(tower)]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tower", TOWERS)
def test_a_block_that_mixes_tokens_in_place_of_the_last_is_called_as_open_clips(tower):
    class Mixing(nn.Module):
        def forward(self, x, attn_mask=None):
            return x + x.mean(1, keepdim=True)

    model = build(SMALL["vit"])
    transformer = model.get_submodule(TOWERS[tower][0])
    seen = []
    transformer.resblocks[-1] = Mixing()
    transformer.register_forward_hook(lambda *a: seen.append(a[-1]))
    features_of(model, tower)
    before = []
    transformer.resblocks[-2].register_forward_hook(lambda *a: before.append(a[-1]))
    features_of(model, tower)
    torch.testing.assert_close(seen[-1], before[0] + before[0].mean(1, keepdim=True))


@pytest.mark.parametrize("tower", TOWERS)
def test_a_transformer_of_somebody_elses_is_called_as_open_clips(tower):
    class Theirs(nn.Module):
        def forward(self, x, attn_mask=None):
            assert (attn_mask is None) == (tower == "visual")
            return 2 * x

    model = build(SMALL["vit"])
    parent = model.visual if tower == "visual" else model
    parent.transformer = Theirs()
    x = (
        model.visual._embeds(IMAGES)
        if tower == "visual"
        else model.token_embedding(TOKENS) + model.positional_embedding
    )
    norm = model.visual.ln_post if tower == "visual" else model.ln_final
    head = model.visual.proj if tower == "visual" else model.text_projection
    at = 0 if tower == "visual" else TOKENS.argmax(-1)
    expected = norm(2 * x)[torch.arange(3), at] @ head
    torch.testing.assert_close(features_of(model, tower), expected)


def test_a_patched_class_is_called_as_open_clips(monkeypatch):
    original, seen = ResidualBlock.forward, []

    def forward(self, x, attn_mask=None):
        seen.append(x.shape)
        return original(self, x, attn_mask=attn_mask)

    model = build(SMALL["vit"])
    expected = model(IMAGES, TOKENS)[:2]
    monkeypatch.setattr(ResidualBlock, "forward", forward)
    torch.testing.assert_close(model(IMAGES, TOKENS)[:2], expected, rtol=1e-5, atol=1e-6)
    assert seen == 3 * [(3, 17, 128)] + 2 * [(3, 9, 128)]


@pytest.mark.parametrize("tower", TOWERS)
def test_nobody_looks_and_the_last_block_computes_one_token(tower):
    model = build(SMALL["vit"])
    short = flops(model, tower)
    last_of(model, tower).register_forward_hook(lambda *a: None)
    T, width = num_tokens_of(tower), 128
    # A query, an output projection and an MLP of two times four widths, at the other positions.
    saved = 3 * (T - 1) * 2 * width**2 * (1 + 1 + 8)
    attention = 3 * (T - 1) * 4 * T * width  # PyTorch does not count it on every device
    assert flops(model, tower) - short in (saved, saved + attention)


def test_hooks_of_the_first_block_leave_the_last_as_it_is():
    model = build(SMALL["vit"])
    short, seen = flops(model, "visual"), []
    model.visual.transformer.resblocks[0].register_forward_hook(lambda *a: seen.append(a[-1]))
    assert flops(model, "visual") == short and seen[0].shape == (3, 17, 128)


def test_a_transformer_without_blocks_returns_what_it_is_given():
    model = build(SMALL["vit"])
    model.visual.transformer.resblocks = nn.ModuleList()
    x = model.visual.ln_post(model.visual._embeds(IMAGES)[:, 0])
    torch.testing.assert_close(model.encode_image(IMAGES), x @ model.visual.proj)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_hooks_that_are_there_before_compiling_see_every_token():
    torch._dynamo.reset()
    model = build(SMALL["vit"])
    expected, seen = model.encode_image(IMAGES), []
    model.visual.transformer.resblocks[-1].register_forward_hook(
        lambda module, args, output: seen.append(output)
    )
    compiled = torch.compile(model.visual, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(IMAGES), expected, rtol=1e-5, atol=1e-6)
    assert [x.shape for x in seen] == [(3, 17, 128)]


def test_transformers_can_be_told_which_token_to_read():
    torch.manual_seed(0)
    transformer = Transformer(width=16, layers=2, heads=2)
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(transformer(x, read_at=-1), transformer(x)[:, -1])


@pytest.mark.parametrize("kind", ["vit", "avg", "resnet", "siglip"])
def test_graphs_of_torch_fx_hold_every_token(kind):
    """As feature extractors make them, torchvision's and timm's."""
    model = build(SMALL[kind])
    images, _ = inputs(SMALL[kind])
    graph = torch.fx.symbolic_trace(model.visual)
    torch.testing.assert_close(graph(images), model.visual(images), rtol=1e-5, atol=1e-6)
    if kind != "vit":
        return
    shapes = []

    class Shapes(torch.fx.Interpreter):
        def run_node(self, node):
            result = super().run_node(node)
            if isinstance(result, torch.Tensor) and "mlp_c_proj" in node.name:
                shapes.append(result.shape[1:])
            return result

    Shapes(graph).run(images)
    assert shapes and all(shape == (17, 128) for shape in shapes)


@pytest.mark.parametrize("name", ["vit", "resnet", "siglip"])
def test_graph_of_a_16_bit_tower_takes_images_in_float32(name):
    tower = build(SMALL[name]).visual.to(torch.bfloat16)
    graph = torch.fx.symbolic_trace(tower)
    assert graph(inputs(SMALL[name])[0]).dtype == torch.bfloat16
